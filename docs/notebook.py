"""The notebook examples/tour.ipynb: `python docs/notebook.py` runs it and keeps its outputs.

As a hook of MkDocs (mkdocs.yml) this file makes the page tutorial/tour.md of the notebook.
"""

import argparse
import base64
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
PAGE = "tutorial/tour.md"


def executed(path=NOTEBOOK):
    """The notebook after a run of all of its cells in a new process, as nbformat's object."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": str(path.parent)}})
    # The kernel warns that it is reached by TCP, which is this machine's loopback.
    client.extra_arguments = ["--IPKernelApp.log_level=40"]
    client.execute()
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python",
                                        "name": "python3"},
                         "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        cell.get("outputs", [])[:] = _joined(cell.get("outputs", []))
    return notebook


def _joined(outputs):
    """Outputs whose neighbouring streams are one: where they were cut depends on time."""
    joined = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def texts(cell):
    """What a code cell has printed and shown as text, one string."""
    parts = []
    for output in cell.get("outputs", ()):
        found = output.get("text") or output.get("data", {}).get("text/plain", "")
        if "image/png" not in output.get("data", {}):
            parts.append("".join(found))
    return "".join(parts)


def markdown(notebook):
    """(text of the page, file name -> PNG) of a notebook as JSON gives it."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"tour-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({name})")
            elif "text/markdown" in data:
                parts.append("".join(data["text/markdown"]))
            else:
                text = "".join(output.get("text") or data["text/plain"]).rstrip()
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n", pictures


def on_files(files, config):
    """MkDocs: adds the page and its pictures."""
    from mkdocs.structure.files import File
    text, pictures = markdown(json.loads(NOTEBOOK.read_text()))
    files.append(File.generated(config, PAGE, content=text))
    for name, content in pictures.items():
        files.append(File.generated(config, f"{Path(PAGE).parent}/{name}", content=content))
    return files


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    import nbformat
    nbformat.write(executed(), NOTEBOOK)
    print(NOTEBOOK, "written")


if __name__ == "__main__":
    main()
