// The page of a sweep. `data`: {objectives, metrics: {name: {text, better, unit}}, keys, rows,
// folder}; a row has a field for each key and metric (null: not known), `pareto`, `error`.
const { metrics, objectives } = data;
const COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2",
  "#7f7f7f", "#bcbd22", "#17becf"];
const good = data.rows.filter(row => !row.error);
const counts = row => !row.does_not_fit && !row.violated && !row.error;
const names = Object.keys(metrics).filter(name => good.some(row => row[name] !== null));
const state = { off: new Set(), ranges: {}, sort: objectives[0], up: true };

function shown(value) {
  if (value === null || value === undefined || value === "") return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
}

// What tells a point from the others: formats where they differ, else its array.
const formats = row => row["array.activation"] === row["array.weight"] ? row["array.weight"]
  : `${row["array.activation"]} x ${row["array.weight"]}`;
const several = new Set(good.map(formats)).size > 1;
const sizes = row => `${row["array.rows"]} x ${row["array.columns"]}`
  + (row["array.lanes"] > 1 ? ` x ${row["array.lanes"]}` : "");
const shapes = new Set(good.map(sizes)).size > 1;
const short = row => [several && formats(row), shapes && sizes(row)].filter(Boolean).join(", ");
const label = name => metrics[name] ? metrics[name].text
  + (metrics[name].unit ? `, ${metrics[name].unit}` : "") : name;
const command = row => `systolith build --from-sweep ${data.folder} ${row.point}`
  + ` -o build/${row.point}`;
const ends = values => [Math.min(...values), Math.max(...values)];

// A scale from values to places; logarithmic where all are above 0 and it is wanted.
function scale(values, from, to, log) {
  let [low, high] = ends(values);
  log = log && low > 0;
  const f = log ? Math.log : x => x;
  if (low === high) { low = log ? low / 1.1 : low - 1; high = log ? high * 1.1 : high + 1; }
  const [a, b] = [f(low), f(high)];
  const at = value => from + (to - from) * (f(value) - a) / (b - a);
  const back = place => {
    const x = a + (b - a) * (place - from) / (to - from);
    return log ? Math.exp(x) : x;
  };
  let ticks = [];
  if (log) {
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const m of high / low > 1000 ? [1] : [1, 2, 5]) ticks.push(m * 10 ** e);
    ticks = ticks.filter(t => t >= low && t <= high);
  }
  if (ticks.length < 3) {
    ticks = [];
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough);
    for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) ticks.push(t);
  }
  return { at, back, ticks: ticks.filter(t => t >= low && t <= high) };
}

const groupOf = row => String(row[$("colour").value]);
const groups = () => [...new Set(good.map(groupOf))];
const colourOf = row => COLOURS[groups().indexOf(groupOf(row)) % COLOURS.length];

// The rows that filters leave.
function kept() {
  return good.filter(row => !state.off.has(groupOf(row)) && ($("others").checked || counts(row))
    && Object.entries(state.ranges).every(([name, [low, high]]) =>
      row[name] !== null && row[name] >= low && row[name] <= high));
}

// Those that no other beats in two metrics, from the smallest across on.
function front(rows, across, down) {
  const cost = (row, name) => -metrics[name].better * row[name];
  const found = [];
  const sorted = rows.filter(counts).sort((one, other) =>
    cost(one, across) - cost(other, across) || cost(one, down) - cost(other, down));
  for (const row of sorted)
    if (!found.length || cost(row, down) < cost(found.at(-1), down)) found.push(row);
  return found;
}

function hover(event, row) {
  const box = $("hover");
  if (!row) { box.style.display = "none"; return; }
  box.replaceChildren();
  element(box, "b", {}, `${row.group}: ${row.point}`);
  const chip = [`${row["array.rows"]} x ${row["array.columns"]} x ${row["array.lanes"]}, `
    + `${row["array.activation"]} x ${row["array.weight"]}`, row.network];
  const figures = names.map(name => `${label(name)}: ${shown(row[name])}`)
    .filter(text => !text.endsWith(": "));
  const wrong = [row.does_not_fit && `does not fit the ${row.part}: ${row.does_not_fit}`,
    row.violated && `violates ${row.violated}`].filter(Boolean);
  for (const text of [...chip, ...wrong, ...figures]) element(box, "div", {}, text);
  box.style.display = "block";
  const over = event.clientX + box.offsetWidth + 20 > innerWidth;
  box.style.left = `${event.clientX + (over ? -box.offsetWidth - 12 : 12)}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY, innerHeight - box.offsetHeight - 8))}px`;
}

function drawPlot() {
  const svg = $("plot"), [across, down] = [$("across").value, $("down").value];
  svg.replaceChildren();
  const rows = kept().filter(row => row[across] !== null && row[down] !== null);
  if (!rows.length) {
    element(svg, "text", { x: 450, y: 240, "text-anchor": "middle" }, "no points");
    return;
  }
  const log = $("log").checked;
  const x = scale(rows.map(row => row[across]), 90, 870, log);
  const y = scale(rows.map(row => row[down]), 420, 20, log);
  for (const t of x.ticks) {
    element(svg, "line", { x1: x.at(t), x2: x.at(t), y1: 10, y2: 432, class: "grid" });
    element(svg, "text", { x: x.at(t), y: 448, "text-anchor": "middle" }, shown(t));
  }
  for (const t of y.ticks) {
    element(svg, "line", { x1: 80, x2: 885, y1: y.at(t), y2: y.at(t), class: "grid" });
    element(svg, "text", { x: 74, y: y.at(t) + 4, "text-anchor": "end" }, shown(t));
  }
  element(svg, "text", { x: 480, y: 472, "text-anchor": "middle" }, label(across));
  element(svg, "text", { transform: "translate(14 220) rotate(-90)", "text-anchor": "middle" },
    label(down));
  for (const name of groups()) {
    const line = front(rows.filter(row => groupOf(row) === name), across, down);
    for (const row of line.length > 12 ? [] : line)
      element(svg, "text", x.at(row[across]) > 780
        ? { x: x.at(row[across]) - 8, y: y.at(row[down]) - 7, "text-anchor": "end" }
        : { x: x.at(row[across]) + 8, y: y.at(row[down]) - 7 }, short(row));
    if (line.length > 1) element(svg, "path", { fill: "none", stroke: colourOf(line[0]),
      "stroke-width": 1.5, "data-front": name,
      d: "M" + line.map(row => `${x.at(row[across])} ${y.at(row[down])}`).join("L") });
  }
  for (const row of rows) {
    const place = { cx: x.at(row[across]), cy: y.at(row[down]) };
    const dot = element(svg, "circle", { ...place, r: row.pareto ? 5.5 : 4, stroke: colourOf(row),
      fill: counts(row) ? colourOf(row) : "none", "fill-opacity": row.pareto ? 0.9 : 0.45,
      "data-point": row.point });
    dot.onmousemove = event => hover(event, row);
    dot.onmouseleave = event => hover(event, null);
  }
}

function drawParallel() {
  const svg = $("parallel");
  svg.replaceChildren();
  const varied = [...data.keys, ...names].filter(name =>
    new Set(good.map(row => row[name])).size > 1
    && good.every(row => row[name] === null || typeof row[name] === "number")).slice(0, 14);
  if (!varied.length) return;
  const rows = kept();
  const place = n => 50 + n * (800 / Math.max(1, varied.length - 1));
  const scales = varied.map(name =>
    scale(good.map(row => row[name]).filter(value => value !== null), 215, 45, true));
  for (const row of rows) {
    const points = varied.map((name, n) => row[name] === null ? null
      : `${place(n)} ${scales[n].at(row[name])}`).filter(Boolean);
    element(svg, "path", { d: "M" + points.join("L"), fill: "none", stroke: colourOf(row),
      "stroke-opacity": row.pareto ? 0.9 : 0.2, "stroke-width": row.pareto ? 1.5 : 1 });
  }
  varied.forEach((name, n) => {
    const values = good.map(row => row[name]).filter(value => value !== null);
    const [low, high] = ends(values);
    element(svg, "line", { x1: place(n), x2: place(n), y1: 45, y2: 215, class: "axis" });
    element(svg, "text", { x: place(n), y: n % 2 ? 14 : 26, "text-anchor": "middle" }, name);
    element(svg, "text", { x: place(n), y: 40, "text-anchor": "middle" }, shown(high));
    element(svg, "text", { x: place(n), y: 230, "text-anchor": "middle" }, shown(low));
    const range = state.ranges[name];
    if (range) {
      const [top, bottom] = [scales[n].at(range[1]), scales[n].at(range[0])];
      element(svg, "rect", { x: place(n) - 6, width: 12, y: Math.max(45, top), fill: "#ffbf0066",
        height: Math.max(2, Math.min(215, bottom) - Math.max(45, top)) });
    }
    const handle = element(svg, "rect", { x: place(n) - 12, y: 40, width: 24, height: 180,
      fill: "transparent", style: "cursor: ns-resize" });
    const at = event => {
      const box = svg.getBoundingClientRect();
      return (event.clientY - box.top) * 260 / box.height;
    };
    let begun = null;
    handle.onpointerdown = event => { begun = at(event); handle.setPointerCapture(event.pointerId); };
    handle.onpointerup = event => {
      const end = at(event);
      if (begun !== null && Math.abs(end - begun) > 3) {
        state.ranges[name] = [scales[n].back(Math.max(begun, end)),
          scales[n].back(Math.min(begun, end))];
        draw();
      }
      begun = null;
    };
    handle.ondblclick = () => { delete state.ranges[name]; draw(); };
  });
}

function drawTable() {
  const table = $("table");
  table.replaceChildren();
  const keys = data.keys.filter(name => new Set(good.map(row => row[name])).size > 1);
  const columns = ["point", "group", "network", ...keys, ...names, "does_not_fit", "violated"]
    .filter(name => good.some(row => row[name] !== null && row[name] !== ""));
  const head = element(element(table, "thead"), "tr");
  const text = new Set(columns.filter(name => good.some(row => typeof row[name] === "string")));
  for (const name of columns) {
    const cell = element(head, "th", { title: label(name), class: (text.has(name) ? "text " : "")
      + (state.sort === name ? state.up ? "up" : "down" : "") }, name);
    cell.onclick = () => {
      state.up = state.sort === name ? !state.up : true;
      state.sort = name;
      drawTable();
    };
  }
  const order = (one, other) => {
    const [a, b] = [one[state.sort], other[state.sort]];
    if (a === null || b === null) return (a === null) - (b === null);
    return (a < b ? -1 : a > b ? 1 : 0) * (state.up ? 1 : -1);
  };
  const rows = kept().sort(order), body = element(table, "tbody");
  for (const row of rows) {
    const line = element(body, "tr", { class: row.pareto ? "front" : counts(row) ? "" : "no",
      title: command(row) });
    for (const name of columns)
      element(line, "td", text.has(name) ? { class: "text" } : {}, shown(row[name]));
  }
  $("count").textContent = `${rows.length} of ${good.length}`;
}

function drawWinners() {
  const section = $("winners");
  const found = [];
  for (const network of new Set(good.map(row => row.network)))
    for (const name of objectives) {
      const rows = good.filter(row => row.network === network && counts(row)
        && row[name] !== null);
      if (!rows.length) continue;
      rows.sort((one, other) => metrics[name].better * (other[name] - one[name]));
      found.push([network, name, rows[0], rows.find(row => row[name] !== rows[0][name])]);
    }
  if (!found.length) return;
  element(section, "h2", {}, "Best of each objective");
  const table = element(element(section, "div", { class: "scroll" }), "table");
  const head = element(table, "tr");
  for (const text of ["network", "objective", "best", "point", "why", "build it"])
    element(head, "th", { class: "text" }, text);
  for (const [network, name, row, next] of found) {
    const line = element(table, "tr");
    const why = `${row["array.rows"]} x ${row["array.columns"]} x ${row["array.lanes"]} of `
      + `${row["array.activation"]} x ${row["array.weight"]}` + (next
        ? `; the next one has ${shown(next[name])}` : "; no other figure is there");
    for (const text of [network, label(name), shown(row[name]), row.point, why])
      element(line, "td", { class: "text" }, text);
    element(element(line, "td", { class: "text" }), "code", {}, command(row));
  }
}

function drawFailures() {
  const failed = data.rows.filter(row => row.error);
  if (!failed.length) return;
  const section = $("failures");
  element(section, "h2", {}, `Failures (${failed.length})`);
  const reasons = new Map();
  for (const row of failed) reasons.set(row.error, [...reasons.get(row.error) ?? [], row]);
  const table = element(section, "table");
  for (const [reason, rows] of reasons) {
    const line = element(table, "tr");
    element(line, "td", {}, rows.length);
    element(line, "td", { class: "text", style: "white-space: normal" }, reason);
    element(line, "td", { class: "text" }, rows.slice(0, 5).map(row => row.point).join(" ")
      + (rows.length > 5 ? " ..." : ""));
  }
}

function drawLegend() {
  const legend = $("legend");
  legend.replaceChildren();
  groups().forEach((name, n) => {
    const item = element(legend, "span", { class: state.off.has(name) ? "off" : "" });
    element(item, "i", { class: "dot", style: `background: ${COLOURS[n % COLOURS.length]}` });
    item.append(name || "-");
    item.onclick = () => {
      state.off[state.off.has(name) ? "delete" : "add"](name);
      draw();
    };
  });
}

function draw() { drawLegend(); drawPlot(); drawParallel(); drawTable(); }

for (const id of ["across", "down"])
  for (const name of names) element($(id), "option", { value: name }, label(name));
for (const name of ["group", "network", "array.activation", "array.weight", "part", "board"])
  element($("colour"), "option", { value: name }, name);
$("across").value = names.includes(objectives[1]) ? objectives[1] : names[0];
$("down").value = names.includes(objectives[0]) ? objectives[0] : names[0];
for (const id of ["across", "down", "log", "others"]) $(id).onchange = draw;
$("colour").onchange = () => { state.off.clear(); draw(); };
$("facts").textContent = `${data.rows.length} points and networks, `
  + `${data.rows.filter(row => row.error).length} failed, `
  + `${good.filter(row => row.does_not_fit).length} do not fit their part, `
  + `${good.filter(row => row.violated).length} violate a constraint. Objectives: `
  + objectives.map(name => `${metrics[name].better > 0 ? "most" : "least"} ${label(name)}`)
    .join(", ") + ".";
$("note").textContent = data.note;
drawWinners();
drawFailures();
draw();
