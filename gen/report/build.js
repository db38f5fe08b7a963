// The page of a build; `data` as `build_page` makes it.
const COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f", "#76b7b2",
  "#edc948", "#ff9da7", "#86bcb6"];
const BOUND = { array: "#4e79a7", post: "#f28e2b", load: "#59a14f", store: "#76b7b2",
  latency: "#bab0ac" };
const colour = layer => COLOURS[layer % COLOURS.length];
const number = value => Math.round(value).toLocaleString("en");

function says(made, text) {
  made.onmousemove = event => {
    const box = $("hover");
    box.textContent = text;
    box.style.display = "block";
    box.style.left = `${Math.min(event.clientX + 12, innerWidth - box.offsetWidth - 8)}px`;
    box.style.top = `${event.clientY + 14}px`;
  };
  made.onmouseleave = () => { $("hover").style.display = "none"; };
}

let view = [0, data.cycles];

function drawTimeline() {
  const svg = $("timeline"), [from, to] = view;
  svg.replaceChildren();
  const at = cycle => 70 + 920 * (cycle - from) / (to - from);
  const bars = (ranges, y, height, look, text) => {
    for (const [begin, end, mark] of ranges) {
      if (end <= from || begin >= to) continue;
      const x = Math.max(70, at(begin)), width = Math.max(0.4, Math.min(990, at(end)) - x);
      const bar = element(svg, "rect", { x, y, width, height, ...look(mark) });
      says(bar, `${text(mark)}, cycles ${number(begin)} to ${number(end)}`);
    }
  };
  const layer = mark => data.layers[mark].name;
  element(svg, "text", { x: 62, y: 26, "text-anchor": "end" }, "layer");
  bars(data.windows, 10, 24, mark => ({ fill: colour(mark) }), layer);
  Object.entries(data.units).forEach(([unit, track], n) => {
    const y = 48 + 36 * n;
    element(svg, "text", { x: 62, y: y + 16, "text-anchor": "end" }, unit);
    bars(track.work, y, 24, mark => ({ fill: colour(mark), "data-unit": unit }),
      mark => `${unit}: ${layer(mark)}`);
    for (const [state, ranges] of Object.entries(track.waits))
      bars(ranges, y + 6, 12, () => ({ fill: "#ffffffb0" }),
        () => `${unit} waits (${state})`);
  });
  for (let n = 0; n <= 5; n++) {
    const cycle = from + (to - from) * n / 5;
    element(svg, "text", { x: at(cycle), y: 212, "text-anchor": n === 5 ? "end" : "middle" },
      number(cycle));
  }
}

const timeline = $("timeline");
const cycleAt = event => {
  const box = timeline.getBoundingClientRect();
  const x = (event.clientX - box.left) * 1000 / box.width;
  return view[0] + (view[1] - view[0]) * Math.min(1, Math.max(0, (x - 70) / 920));
};
let begun = null;
timeline.onpointerdown = event => { begun = cycleAt(event); };
timeline.onpointerup = event => {
  const ends = [begun, cycleAt(event)].sort((a, b) => a - b);
  if (begun !== null && ends[1] - ends[0] > (view[1] - view[0]) / 100) { view = ends; drawTimeline(); }
  begun = null;
};
timeline.ondblclick = () => { view = [0, data.cycles]; drawTimeline(); };

function drawFacts() {
  for (const [name, text] of data.facts) {
    const line = element($("facts"), "tr");
    element(line, "td", {}, name);
    element(line, "td", { class: "text" }, text);
  }
}

function drawLayers() {
  for (const [name, text] of Object.entries(data.bounds)) {
    const item = element($("legend"), "span");
    element(item, "i", { class: "dot", style: `background: ${BOUND[name]}` });
    item.append(text);
  }
  const table = $("layers"), head = element(table, "tr");
  for (const text of ["layer", "kind", "output", "MACs", "cycles", "", "utilization",
    "bytes loaded", "stored"]) element(head, "th", {}, text);
  const most = Math.max(...data.layers.map(layer => layer.cycles), 1);
  data.layers.forEach((layer, n) => {
    const line = element(table, "tr"), first = element(line, "td");
    element(first, "i", { class: "dot", style: `background: ${colour(n)}` });
    first.append(layer.name);
    for (const text of [layer.kind, layer.output]) element(line, "td", { class: "text" }, text);
    for (const value of [layer.macs, layer.cycles]) element(line, "td", {}, number(value));
    const bar = element(line, "td", { class: "bar text" });
    for (const [name, cycles] of Object.entries(layer.charged)) {
      const part = element(bar, "i", { style: `width: ${15 * cycles / most}rem; background: ${
        BOUND[name]}` });
      says(part, `${data.bounds[name]}: ${number(cycles)} cycles`);
    }
    element(line, "td", {}, `${(100 * layer.utilization).toFixed(1)} %`);
    const loaded = element(line, "td", {}, number(
      Object.values(layer.loaded).reduce((sum, value) => sum + value, 0)));
    says(loaded, Object.entries(layer.loaded).map(([name, bytes]) =>
      `${name}: ${number(bytes)}`).join(", "));
    element(line, "td", {}, number(layer.stored));
  });
}

// Rectangles for sizes that fall, in a box: each row is filled along the shorter side while that
// makes its rectangles squarer.
function squares(items, x, y, width, height) {
  const found = [];
  let rest = items.reduce((sum, item) => sum + item[1], 0);
  items = [...items];
  while (items.length) {
    const along = Math.min(width, height), scale = width * height / rest;
    const worst = row => {
      const sum = row.reduce((all, item) => all + item[1], 0) * scale, depth = sum / along;
      return Math.max(...row.map(item => {
        const side = item[1] * scale / depth;
        return Math.max(side / depth, depth / side);
      }));
    };
    const row = [items.shift()];
    while (items.length && worst([...row, items[0]]) <= worst(row)) row.push(items.shift());
    const sum = row.reduce((all, item) => all + item[1], 0), depth = sum * scale / along;
    let place = 0;
    for (const item of row) {
      const side = item[1] * scale / depth;
      found.push(width >= height ? [item, x, y + place, depth, side]
        : [item, x + place, y, side, depth]);
      place += side;
    }
    if (width >= height) { x += depth; width -= depth; } else { y += depth; height -= depth; }
    rest -= sum;
  }
  return found;
}

function drawArea() {
  if (!data.area) return;
  const section = $("area");
  element(section, "h2", {}, `Area (${data.part ?? data.target}, by Yosys)`);
  const choice = element(section, "select");
  for (const name of ["lut", "ff", "dsp", "bram"])
    element(choice, "option", { value: name }, name.toUpperCase());
  section.insertAdjacentHTML("beforeend", '<svg id="treemap" viewBox="0 0 1000 260"></svg>');
  const draw = () => {
    const svg = $("treemap");
    svg.replaceChildren();
    const items = Object.entries(data.area).map(([name, part]) => [name, part[choice.value]])
      .filter(item => item[1] > 0).sort((one, other) => other[1] - one[1]);
    const sum = items.reduce((all, item) => all + item[1], 0);
    squares(items, 0, 0, 1000, 260).forEach(([[name, size], x, y, width, height], n) => {
      const box = element(svg, "rect", { x, y, width, height, fill: COLOURS[n % COLOURS.length],
        stroke: "#fff", "stroke-width": 2, "fill-opacity": 0.75, "data-part": name });
      const text = `${name}: ${size.toLocaleString("en")} ${choice.value.toUpperCase()}, `
        + `${(100 * size / sum).toFixed(1)} %`;
      says(box, text);
      if (width > 110 && height > 30) {
        element(svg, "text", { x: x + 6, y: y + 16 }, name);
        element(svg, "text", { x: x + 6, y: y + 30 }, size.toLocaleString("en"));
      }
    });
  };
  choice.onchange = draw;
  draw();
}

function drawMemory() {
  const head = element($("onchip"), "tr");
  for (const text of ["on the chip", "words used", "of", ""]) element(head, "th", {}, text);
  for (const [name, used, of] of data.on_chip) {
    const line = element($("onchip"), "tr");
    for (const text of [name, number(used), number(of)]) element(line, "td", {}, text);
    const bar = element(line, "td", { class: "bar text" });
    element(bar, "i", { style: `width: ${of ? 15 * used / of : 0}rem; background: #4e79a7` });
    element(bar, "i", { style: `width: ${of ? 15 - 15 * used / of : 0}rem; background: #ddd` });
  }
  const svg = $("memory"), end = Math.max(...data.sections.map(item => item[1] + item[2]), 1);
  element(svg, "text", { x: 0, y: 14 }, "external memory");
  element(svg, "text", { x: 1000, y: 14, "text-anchor": "end" }, `${number(end)} bytes`);
  data.sections.forEach(([name, offset, bytes], n) => {
    const x = 1000 * offset / end, width = Math.max(0.5, 1000 * bytes / end);
    const box = element(svg, "rect", { x, y: 20, width, height: 34, stroke: "#fff",
      fill: COLOURS[n % COLOURS.length], "data-section": name });
    says(box, `${name}: ${number(bytes)} bytes from ${number(offset)}`);
    if (width > 8 * name.length) element(svg, "text", { x: x + 5, y: 41 }, name);
  });
}

function drawErrors() {
  if (!data.errors.length) return;
  const section = $("errors");
  element(section, "h2", {}, "Quantization: signal to noise of each layer, with all before it");
  const table = element(section, "table");
  for (const [layer, format, decibels] of data.errors) {
    const line = element(table, "tr");
    for (const text of [layer, format]) element(line, "td", { class: "text" }, text);
    element(line, "td", {}, decibels === null ? "exact" : `${decibels.toFixed(1)} dB`);
    const bar = element(line, "td", { class: "bar text" });
    element(bar, "i", { style: `width: ${Math.min(15, Math.max(0, (decibels ?? 60) / 4))}rem; `
      + "background: #59a14f" });
  }
}

function drawComparison() {
  if (!data.comparison) return;
  const section = $("comparison");
  element(section, "h2", {}, "Results, layer by layer");
  element(section, "p", { class: "note" }, data.comparison.facts);
  const table = element(element(section, "div", { class: "scroll" }), "table");
  const head = element(table, "tr");
  for (const text of ["layer", "format", "results", "codes that differ", "largest, steps",
    "to the quantized model", "to the float network"]) element(head, "th", {}, text);
  const noise = (known, decibels) => !known ? "-"
    : decibels === null ? "exact" : `${decibels.toFixed(1)} dB`;
  for (const [layer, format, results, codes, steps, known, quantized, real, float]
    of data.comparison.rows) {
    const line = element(table, "tr");
    for (const text of [layer, format]) element(line, "td", { class: "text" }, text);
    for (const text of [results.toLocaleString("en-US"),
      known ? `${codes.toLocaleString("en-US")} (${(100 * codes / Math.max(1, results)).toFixed(3)} %)`
        : "-", known ? String(steps) : "-", noise(known, quantized), noise(real, float)])
      element(line, "td", {}, text);
    const bar = element(line, "td", { class: "bar text" });
    if (real) element(bar, "i", { style: `width: ${Math.min(15, Math.max(0, (float ?? 60) / 4))}rem; `
      + "background: #4e79a7" });
  }
}

drawFacts();
drawTimeline();
drawLayers();
drawArea();
drawMemory();
drawErrors();
drawComparison();
