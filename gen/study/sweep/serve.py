"""A sweep's page while it runs, over HTTP on this machine."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from systolith.gen.kit.errors import UserError

__all__ = ["serving"]

#: Asks every two seconds how many measurements there are, and says so.
_LIVE = """<p id="live" style="color:#666"></p><script>
let seen = null;
setInterval(async () => {
  const status = await (await fetch("status.json")).json();
  const kinds = Object.entries(status.measurements).map(([kind, item]) =>
    `${kind}: ${item.known + item.measured} of ${item.wanted}`).join(", ");
  const number = Object.values(status.measurements).reduce((sum, item) => sum + item.measured, 0);
  const line = document.getElementById("live");
  line.textContent = `${status.state}; ${kinds}. `;
  if (seen !== null && number > seen) {
    const link = document.createElement("a");
    link.href = "/"; link.textContent = `Show ${number - seen} new ones`;
    line.append(link);
  }
  seen = seen ?? number;
}, 2000);
</script>"""


@contextmanager
def serving(page: Callable[[], str], status: Callable[[], dict], port: int,
            host: str = "127.0.0.1") -> Iterator[str]:
    """Serve a page, made anew for each request, and `status` as status.json, while the block runs.
    The block is given the address. Port 0: any that is free. Raises UserError."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            # A page of another origin could ask under a name of its own for this address.
            if self.headers.get("Host", "").rpartition(":")[0] not in ("127.0.0.1", "localhost",
                                                                       host):
                self.send_error(403)
            elif self.path == "/":
                self._send("text/html; charset=utf-8", page().replace(
                    "<section id=\"winners\">", f"{_LIVE}<section id=\"winners\">", 1))
            elif self.path == "/status.json":
                self._send("application/json", json.dumps(status()))
            else:
                self.send_error(404)

        def _send(self, kind, text):
            content = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise UserError(f"--serve {port}: {error.strerror}; give another port") from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
