// Steps through the rows of the sweeps: highlights nodes, edges and rows. No libraries.
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);
  const player = byId("player");
  const graph = player.querySelector("svg.graph");
  const rows = [...document.querySelectorAll("tr[data-step]")];
  const leads = [...byId("leads").content.querySelectorAll("dl")];
  const buttons = [...player.querySelectorAll("[data-sweep]")];
  const sweeps = buttons.map((button) => byId(button.dataset.sweep));
  const sweepOf = rows.map((row) => row.closest(".sweep"));
  const slider = byId("slider");
  const pace = 1400; // milliseconds between the steps of a play
  let at = 0;
  let timer = 0;

  const show = (step, speak = true) => {
    at = Math.max(0, Math.min(rows.length - 1, step));
    const row = rows[at];
    const sweep = sweepOf[at];
    const kind = ["values", "forward", "reverse"].find((name) => sweep.classList.contains(name));
    const steps = rows.filter((_, i) => sweepOf[i] === sweep);
    const place = steps.indexOf(row);

    for (const other of sweeps) other.classList.toggle("shown", other === sweep);
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.sweep === sweep.id));
    }
    for (const box of [graph, player.querySelector(".now")]) {
      box.classList.remove("values", "forward", "reverse");
      box.classList.add(kind);
    }
    // The number that each node has been given by now; in reverse mode several may arrive.
    const given = new Map();
    steps.slice(0, place + 1).forEach((one) => given.set(one.dataset.node, one.dataset.badge));
    for (const node of graph.querySelectorAll(".node")) {
      const index = node.id.slice(1);
      node.classList.toggle("current", index === row.dataset.node);
      node.classList.toggle("touched", given.has(index));
      node.classList.toggle("todo", kind === "values" && !given.has(index));
      const badge = kind === "values" ? undefined : given.get(index);
      node.querySelector(".badge").textContent = badge === undefined ? "" : `∂ ${badge}`;
    }
    const edges = new Set(row.dataset.edges.trim().split(/\s+/));
    for (const edge of graph.querySelectorAll(".edge")) {
      edge.classList.toggle("current", edges.has(edge.id.slice(1)));
    }
    for (const one of rows) {
      one.classList.toggle("current", one === row);
      one.classList.toggle("later", steps.indexOf(one) > place);
      if (one === row) one.setAttribute("aria-current", "step");
      else one.removeAttribute("aria-current");
    }
    byId("lead").replaceChildren(...leads[at].cloneNode(true).childNodes);
    byId("sweep-title").textContent = sweep.dataset.title;
    byId("count").textContent = `· step ${place + 1} of ${steps.length}`;
    const say = row.dataset.say;
    if (speak) byId("say").textContent = say;
    slider.value = String(at + 1);
    slider.setAttribute("aria-valuetext", `${sweep.dataset.title}, step ${place + 1} of ${steps.length}: ${say}`);
    for (const id of ["first", "back"]) disable(byId(id), at === 0);
    for (const id of ["next", "last"]) disable(byId(id), at === rows.length - 1);
    inside(row.closest(".rows"), row);
    inside(graph.closest(".scroll"), byId(`n${row.dataset.node}`));
  };

  // A button that is switched off must not take the focus with it.
  const disable = (button, off) => {
    if (off && document.activeElement === button) slider.focus({ preventScroll: true });
    button.disabled = off;
  };

  // Scrolls a box, never the page.
  const inside = (box, element) => {
    const outer = box.getBoundingClientRect();
    const inner = element.getBoundingClientRect();
    const head = box.querySelector("thead")?.offsetHeight ?? 0;
    if (inner.top < outer.top + head) box.scrollTop -= outer.top + head - inner.top + 8;
    else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 8;
    if (box.querySelector("table")) return;
    if (inner.left < outer.left) box.scrollLeft -= outer.left - inner.left + 8;
    else if (inner.right > outer.right) box.scrollLeft += inner.right - outer.right + 8;
  };

  const stop = () => {
    clearInterval(timer);
    timer = 0;
    player.classList.remove("playing");
    byId("play").setAttribute("aria-label", "Play");
  };
  const play = () => {
    if (timer) {
      stop();
      return;
    }
    if (at === rows.length - 1) show(0);
    timer = setInterval(() => {
      if (at < rows.length - 1) show(at + 1);
      if (at === rows.length - 1) stop();
    }, pace);
    player.classList.add("playing");
    byId("play").setAttribute("aria-label", "Pause");
  };
  const go = (step) => {
    stop();
    show(step);
  };

  byId("first").addEventListener("click", () => go(0));
  byId("back").addEventListener("click", () => go(at - 1));
  byId("next").addEventListener("click", () => go(at + 1));
  byId("last").addEventListener("click", () => go(rows.length - 1));
  byId("play").addEventListener("click", play);
  slider.addEventListener("input", () => go(Number(slider.value) - 1));
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => go(sweepOf.indexOf(sweeps[i])));
  });
  rows.forEach((row, i) => row.addEventListener("click", () => go(i)));
  for (const node of graph.querySelectorAll(".node")) {
    node.addEventListener("click", () => {
      const found = rows.findIndex((row, i) => sweepOf[i] === sweepOf[at] && row.dataset.node === node.id.slice(1));
      if (found >= 0) go(found);
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const focus = document.activeElement;
    const nowhere = !focus || focus === document.body;
    if (!nowhere && !player.contains(focus)) return;
    const keys = { ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1) };
    if (!nowhere) {
      keys.Home = () => go(0);
      keys.End = () => go(rows.length - 1);
      if (!focus.matches("button, summary, a")) keys[" "] = play;
    }
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  document.documentElement.classList.add("scripted");
  slider.max = String(rows.length);
  player.querySelector(".controls").hidden = false;
  player.querySelector(".now").hidden = false;
  show(0, false);
})();
