// Draws the charts of the page from the JSON beside it: hover, keys, touch, legend. No libraries.
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("data").textContent);
  const svgSpace = document.getElementById("icon").namespaceURI;
  const groups = new Map(); // charts that share their cursor
  const hiddenIn = new Map(); // legend -> names switched off

  const svg = (name, attributes, ...children) => {
    const node = document.createElementNS(svgSpace, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const html = (name, className, ...children) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };

  // ---- numbers -------------------------------------------------------------------------------
  const percent = (value, digits) => `${(100 * value).toFixed(digits)}%`;
  const number = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
      return Number(value.toPrecision(3)).toExponential().replace("e+", "e");
    }
    return String(Number(value.toPrecision(4)));
  };
  const count = (value) => Math.round(value).toLocaleString("en");
  const format = (chart, value) => (chart.unit === "percent" ? percent(value, 1) : number(value));

  const quantile = (sorted, q) => sorted[Math.round(q * (sorted.length - 1))];

  const niceTicks = (low, high, wanted) => {
    const rough = (high - low) / Math.max(1, wanted);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) {
      ticks.push(Number((k * step).toPrecision(12)));
    }
    return ticks;
  };
  const logTicks = (low, high) => {
    const first = Math.ceil(Math.log10(low) - 1e-9);
    const last = Math.floor(Math.log10(high) + 1e-9);
    const every = Math.max(1, Math.ceil((last - first + 1) / 6));
    const ticks = [];
    for (let k = first; k <= last; k += every) ticks.push(10 ** k);
    if (ticks.length > 1) return ticks;
    const between = [];
    for (let k = first - 1; k <= last; k += 1) {
      for (const m of [1, 2, 5]) {
        const value = m * 10 ** k;
        if (value >= low && value <= high) between.push(Number(value.toPrecision(6)));
      }
    }
    return between.length > 1 ? between : niceTicks(low, high, 4).filter((value) => value > 0);
  };
  const tickLabel = (chart, value, ticks) => {
    const spacing = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : 1;
    if (chart.unit === "percent") return percent(value, spacing < 0.01 ? 1 : 0);
    return number(value);
  };

  // Index of the entry of the increasing list xs that is nearest to x.
  const nearest = (xs, x) => {
    let low = 0;
    let high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle;
      else high = middle;
    }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  };

  // ---- one chart -----------------------------------------------------------------------------
  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.chart = data.charts[figure.dataset.chart];
      this.svg = figure.querySelector("svg");
      this.tip = figure.querySelector(".tip");
      this.log = this.chart.log;
      this.step = null;
      this.group = figure.dataset.group;
      this.legend = figure.dataset.legend;
      if (!groups.has(this.group)) groups.set(this.group, []);
      groups.get(this.group).push(this);
      if (!hiddenIn.has(this.legend)) hiddenIn.set(this.legend, new Set());
      for (const s of this.chart.series) if (s.quiet) hiddenIn.get(this.legend).add(s.name);
      this.listen();
    }

    visible() {
      const off = hiddenIn.get(this.legend);
      return this.chart.series.filter((s) => !off.has(s.name));
    }

    usable(value) {
      return value !== null && (!this.log || value > 0);
    }

    limits() {
      let low = Infinity;
      let high = -Infinity;
      for (const s of this.visible()) {
        const values = s.y.filter((v) => this.usable(v)).sort((a, b) => a - b);
        if (!values.length) continue;
        const raw = s.style === "raw"; // one spike must not flatten everything else
        low = Math.min(low, raw ? quantile(values, 0.01) : values[0]);
        high = Math.max(high, raw ? quantile(values, 0.99) : values[values.length - 1]);
      }
      if (this.chart.guide !== null) {
        low = Math.min(low, this.chart.guide);
        high = Math.max(high, this.chart.guide);
      }
      if (low > high) return this.log ? [0.1, 1] : [0, 1];
      if (this.log) {
        const room = Math.max((high / low) ** 0.06, 1.15);
        return [low / room, high * room];
      }
      const room = 0.06 * (high - low) || 0.5 * Math.abs(high) || 0.5;
      return [low - room, high + room];
    }

    draw() {
      const chart = this.chart;
      const width = Math.max(240, Math.round(this.figure.querySelector(".plot").clientWidth));
      const wide = this.figure.classList.contains("flat");
      const height = Math.round(Math.min(wide ? 170 : 300, Math.max(wide ? 140 : 190, width * 0.6)));
      const [low, high] = this.limits();
      const ticks = this.log ? logTicks(low, high) : niceTicks(low, high, height / 45);
      const labels = ticks.map((value) => tickLabel(chart, value, ticks));
      const left = 12 + 7 * Math.max(...labels.map((text) => text.length), 2);
      const [top, right, bottom] = [10, 10, 24];
      const [first, last] = chart.range;
      const span = last - first || 1;
      const scaled = (value) => (this.log ? Math.log(value) : value);
      const x = (step) => left + ((step - first) / span) * (width - left - right);
      const y = (value) => top + ((scaled(high) - scaled(value)) / (scaled(high) - scaled(low))) * (height - top - bottom);
      this.frame = { width, height, left, right, top, bottom, first, span, x, y };

      const clip = `clip-${chart.key}`;
      const nodes = [
        svg("clipPath", { id: clip }, svg("rect", { x: left - 4, y: top - 4, width: width - left - right + 8, height: height - top - bottom + 8 })),
      ];
      ticks.forEach((value, i) => {
        nodes.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
        nodes.push(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, labels[i]));
      });
      nodes.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
      for (const step of niceTicks(first, last, width / 90)) {
        if (step !== Math.round(step)) continue;
        nodes.push(svg("text", { x: x(step), y: height - 7, "text-anchor": "middle" }, count(step)));
      }
      const lines = svg("g", { "clip-path": `url(#${clip})` });
      for (const s of this.visible()) this.drawSeries(lines, s);
      nodes.push(lines);
      if (chart.guide !== null) {
        const height_ = y(chart.guide);
        nodes.push(svg("line", { class: "guide", x1: left, x2: width - right, y1: height_, y2: height_ }));
      }
      const off = hiddenIn.get(this.legend);
      if (chart.mark && !off.has("validation set") && this.usable(chart.mark.value)) {
        nodes.push(svg("circle", { class: `ring s${chart.mark.colour}`, cx: x(chart.mark.step), cy: y(chart.mark.value), r: 7 }));
      }
      if (chart.broken !== null) {
        const at = x(chart.broken);
        nodes.push(svg("line", { class: "broken", x1: at, x2: at, y1: top, y2: height - bottom }));
        nodes.push(svg("text", { class: "broken", x: at > width / 2 ? at - 5 : at + 5, y: top + 12, "text-anchor": at > width / 2 ? "end" : "start" }, "not finite"));
      }
      this.cursor = svg("g", { "pointer-events": "none" });
      nodes.push(this.cursor);
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren(...nodes);

      const steps = new Set();
      for (const s of this.visible()) s.x.forEach((step, i) => this.usable(s.y[i]) && steps.add(step));
      this.steps = [...steps].sort((a, b) => a - b);
      this.svg.setAttribute("aria-valuemin", String(first));
      this.svg.setAttribute("aria-valuemax", String(last));
      this.show(this.step, false);
    }

    drawSeries(parent, s) {
      const { x, y } = this.frame;
      let path = "";
      let pen = false; // lifted where a value is missing
      const points = [];
      s.x.forEach((step, i) => {
        if (!this.usable(s.y[i])) {
          pen = false;
          return;
        }
        path += `${pen ? "L" : "M"}${x(step).toFixed(1)} ${y(s.y[i]).toFixed(1)}`;
        pen = true;
        points.push([x(step), y(s.y[i])]);
      });
      const attributes = { class: `line ${s.style} s${s.colour}${s.dash ? " minor" : ""}`, d: path };
      if (s.dash) attributes["stroke-dasharray"] = data.dashes[s.dash];
      parent.append(svg("path", attributes));
      if (s.style === "points" || points.length === 1) {
        const r = points.length > 60 ? 1.8 : 3;
        for (const [cx, cy] of points) parent.append(svg("circle", { class: `point f${s.colour}`, cx, cy, r }));
      }
    }

    // Move the cursor to the recorded step nearest to `step`; null takes it away.
    show(step, speak) {
      this.step = step;
      this.cursor.replaceChildren();
      if (step === null || !this.steps.length) {
        this.step = null;
        this.tip.hidden = true;
        return;
      }
      const at = this.steps[nearest(this.steps, step)];
      this.step = at;
      const { x, y, top, height, bottom } = this.frame;
      this.cursor.append(svg("line", { class: "cursor", x1: x(at), x2: x(at), y1: top, y2: height - bottom }));
      const epoch = data.steps_per_epoch ? ` · epoch ${Number((at / data.steps_per_epoch).toFixed(2))}` : "";
      const heading = `step ${count(at)}${epoch}`;
      const rows = [html("b", "", heading)];
      const spoken = [heading];
      for (const s of this.visible()) {
        const found = this.valueNear(s, at);
        if (!found) continue;
        const [where, value] = found;
        this.cursor.append(svg("circle", { class: `dot f${s.colour}`, cx: x(where), cy: y(value), r: s.style === "raw" ? 2.5 : 4.5 }));
        const text = format(this.chart, value);
        const name = where === at ? s.name : `${s.name}, step ${count(where)}`;
        rows.push(html("div", "", swatch(s), html("span", "name", name), html("span", "", text)));
        spoken.push(`${name}: ${text}`);
      }
      this.svg.setAttribute("aria-valuenow", String(at));
      this.svg.setAttribute("aria-valuetext", spoken.join("; "));
      this.tip.replaceChildren(...rows);
      this.tip.hidden = !speak;
      if (speak) this.place(x(at));
    }

    valueNear(s, step) {
      if (!s.x.length) return null;
      const i = nearest(s.x, step);
      return this.usable(s.y[i]) ? [s.x[i], s.y[i]] : null;
    }

    place(at) {
      const width = this.svg.clientWidth;
      const scale = width / this.frame.width;
      const size = this.tip.offsetWidth;
      const after = at * scale + 14;
      const before = at * scale - 14 - size;
      const fits = after + size <= width;
      const left = fits ? after : Math.max(0, Math.min(before, width - size));
      // On a phone the box would cover the curve, so it goes below it.
    const down = width < 480 ? this.svg.clientHeight + 2 : this.frame.top;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(down)}px)`;
    }

    // Move the cursor of this chart and, silently, those of its group.
    point(step) {
      for (const other of groups.get(this.group)) other.show(step, other === this && step !== null);
    }

    listen() {
      const stepAt = (event) => {
        const box = this.svg.getBoundingClientRect();
        const { left, right, width, first, span } = this.frame;
        const inside = ((event.clientX - box.left) / box.width) * width;
        return first + (Math.max(0, Math.min(1, (inside - left) / (width - left - right))) * span);
      };
      this.svg.addEventListener("pointermove", (event) => this.point(stepAt(event)));
      this.svg.addEventListener("pointerdown", (event) => this.point(stepAt(event)));
      this.svg.addEventListener("pointerleave", (event) => {
        if (event.pointerType === "mouse" && document.activeElement !== this.svg) this.point(null);
      });
      this.svg.addEventListener("focus", () => {
        if (this.step === null && this.svg.matches(":focus-visible")) this.point(this.chart.range[1]);
      });
      this.svg.addEventListener("blur", () => this.point(null));
      this.svg.addEventListener("keydown", (event) => this.key(event));
    }

    key(event) {
      const total = this.steps.length;
      if (!total) return;
      const now = this.step === null ? total - 1 : nearest(this.steps, this.step);
      const jump = Math.max(1, Math.round(total / 10));
      const to = {
        ArrowLeft: now - 1,
        ArrowDown: now - 1,
        ArrowRight: now + 1,
        ArrowUp: now + 1,
        PageDown: now - jump,
        PageUp: now + jump,
        Home: 0,
        End: total - 1,
      }[event.key];
      if (event.key === "Escape") this.point(null);
      else if (to === undefined) return;
      else this.point(this.steps[Math.max(0, Math.min(total - 1, to))]);
      event.preventDefault();
    }
  }

  const swatch = (s) => {
    const line = svg("line", { class: `s${s.colour}`, x1: 0, x2: 18, y1: 5, y2: 5 });
    if (s.dash) line.setAttribute("stroke-dasharray", data.dashes[s.dash]);
    const box = svg("svg", { class: "swatch", viewBox: "0 0 18 10", "aria-hidden": "true" }, line);
    if (s.style === "points") box.append(svg("circle", { class: `f${s.colour}`, cx: 9, cy: 5, r: 3.5 }));
    if (s.style === "raw") line.setAttribute("opacity", "0.4");
    return box;
  };

  const charts = [...document.querySelectorAll("figure.chart")].map((figure) => new Chart(figure));

  for (const list of document.querySelectorAll("ul.legend")) {
    const id = list.dataset.legend;
    const members = charts.filter((chart) => chart.legend === id);
    const entries = new Map(members.flatMap((chart) => chart.chart.series.map((s) => [s.name, s])));
    const off = hiddenIn.get(id);
    for (const [name, s] of entries) {
      const button = html("button", "", swatch(s), name);
      button.type = "button";
      button.setAttribute("aria-pressed", String(!off.has(name)));
      button.addEventListener("click", () => {
        if (!off.delete(name)) off.add(name);
        button.setAttribute("aria-pressed", String(!off.has(name)));
        members.forEach((chart) => chart.draw());
      });
      list.append(html("li", "", button));
    }
  }

  for (const chart of charts) {
    const button = chart.figure.querySelector(".scale");
    if (!button) continue;
    button.hidden = false;
    button.setAttribute("aria-pressed", String(chart.log));
    button.addEventListener("click", () => {
      chart.log = !chart.log;
      button.setAttribute("aria-pressed", String(chart.log));
      chart.draw();
    });
  }

  // Text keeps its size on every screen, so the charts are drawn anew for each width.
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) charts.find((c) => c.figure.contains(target)).draw();
  });
  for (const chart of charts) {
    chart.draw();
    observer.observe(chart.figure.querySelector(".plot"));
  }
  document.addEventListener("pointerdown", (event) => {
    for (const chart of charts) if (!groups.get(chart.group).some((c) => c.svg.contains(event.target))) chart.show(null, false);
  });

  const matrix = document.querySelector("table.confusion");
  if (matrix) {
    const readout = document.getElementById("readout");
    const tell = (event) => {
      const cell = event.target.closest("td");
      if (cell) readout.textContent = data.confusion[cell.parentElement.rowIndex - 1][cell.cellIndex - 1];
    };
    matrix.addEventListener("pointerover", tell);
    matrix.addEventListener("pointerdown", tell);
  }

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
