// The graph of a network: fetched as boxes and edges, laid out by a worker, drawn as SVG, moved and zoomed.
"use strict";
(() => {
  const MOST_S = 20; // a layout that takes longer is given up
  const SVG = "http://www.w3.org/2000/svg";
  const WORDS = { operators: "every operator", kernels: "kernels: what runs as one", modules: "modules: repeated ones once" };
  const WIDEST = 38; // characters of a line

  const element = (name, attributes = {}, text = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  };
  const cut = (text) => (text.length > WIDEST ? `${text.slice(0, WIDEST - 1)}…` : text);
  const lines = (box) => [cut(box.title), cut(box.shape), ...(box.group === "border" ? [] : [box.group])];

  function layOut(place, data) {
    const nodes = data.boxes.map((box) => ({
      width: Math.max(70, 7.2 * Math.max(...lines(box).map((line) => line.length)) + 20),
      height: 12 + 15 * lines(box).length,
    }));
    const worker = new Worker(place.dataset.layout);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`The layout took longer than ${MOST_S} s: choose a coarser drawing.`)), 1000 * MOST_S);
      worker.onmessage = ({ data: found }) => { clearTimeout(timer); resolve({ nodes, found }); };
      worker.onerror = () => { clearTimeout(timer); reject(new Error("The graph could not be laid out: the table below has it.")); };
      worker.postMessage({ dagre: new URL(place.dataset.dagre, location).href, nodes, edges: data.edges });
    }).finally(() => worker.terminate());
  }

  function picture(data, { nodes, found }) {
    const svg = element("svg", { preserveAspectRatio: "xMidYMin meet", "aria-hidden": "true" });
    const marker = element("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
    marker.append(element("path", { d: "M0 0 8 4 0 8z", class: "head" }));
    const definitions = element("defs");
    definitions.append(marker);
    svg.append(definitions);
    for (const points of found.edges) {
      svg.append(element("path", { class: "edge", "marker-end": "url(#arrow)", d: `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}` }));
    }
    data.boxes.forEach((box, at) => {
      const { x, y } = found.nodes[at], { width, height } = nodes[at];
      const group = element("g", { class: `box box-${box.group}`, transform: `translate(${x - width / 2} ${y - height / 2})` });
      group.append(element("title", {}, [box.title, box.shape, box.detail].filter(Boolean).join("\n")));
      if (box.times > 1 || box.operators.length > 1) group.append(element("rect", { x: 3, y: 3, width, height, rx: 5, class: "behind" }));
      group.append(element("rect", { width, height, rx: 5 }));
      lines(box).forEach((line, row) => group.append(element("text", { x: width / 2, y: 18 + 15 * row, class: row ? "small" : "title" }, line)));
      svg.append(group);
    });
    return svg;
  }

  class View {
    constructor(canvas, svg, { width, height, nodes }) {
      Object.assign(this, { canvas, svg, width, height, entry: nodes[0].x });
      canvas.replaceChildren(svg);
      this.readable();
    }
    get ratio() { return this.canvas.clientHeight / Math.max(this.canvas.clientWidth, 1); }
    show(x, y, across) {
      this.across = Math.min(Math.max(across, 120), 4 * Math.max(this.width, this.height / this.ratio));
      const down = this.across * this.ratio;
      this.x = Math.min(Math.max(x, -this.across / 2), this.width - this.across / 2);
      this.y = Math.min(Math.max(y, -down / 2), this.height - down / 2);
      this.svg.setAttribute("viewBox", `${this.x} ${this.y} ${this.across} ${down}`);
    }
    whole() {
      const across = Math.max(this.width, this.height / this.ratio);
      this.show((this.width - across) / 2, 0, across);
    }
    readable() {
      const across = this.canvas.clientWidth;
      this.show(this.entry - across / 2, 0, across);
    }
    zoom(factor, fx = 0.5, fy = 0.5) {
      const across = this.across / factor;
      this.show(this.x + fx * (this.across - across), this.y + fy * this.ratio * (this.across - across), across);
    }
    move(dx, dy) { this.show(this.x + dx * this.across, this.y + dy * this.across * this.ratio, this.across); }
  }

  const KEYS = {
    ArrowLeft: (view) => view.move(-0.15, 0), ArrowRight: (view) => view.move(0.15, 0),
    ArrowUp: (view) => view.move(0, -0.15), ArrowDown: (view) => view.move(0, 0.15),
    "+": (view) => view.zoom(1.25), "=": (view) => view.zoom(1.25), "-": (view) => view.zoom(0.8), 0: (view) => view.whole(),
  };
  const BUTTONS = {
    in: (view) => view.zoom(1.4), out: (view) => view.zoom(1 / 1.4), whole: (view) => view.whole(), width: (view) => view.readable(),
  };

  function handle(canvas, current) {
    const pointers = new Map();
    canvas.addEventListener("keydown", (event) => {
      const act = KEYS[event.key];
      if (!act || event.ctrlKey || event.metaKey || !current()) return;
      event.preventDefault();
      act(current());
    });
    canvas.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, event); canvas.setPointerCapture(event.pointerId); });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId), view = current();
      if (!before || !view) return;
      const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
      if (other) {
        const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
        view.zoom(apart(event) / Math.max(apart(before), 1));
      } else {
        view.move((before.clientX - event.clientX) / canvas.clientWidth, (before.clientY - event.clientY) / canvas.clientHeight);
      }
      pointers.set(event.pointerId, event);
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey || !current()) return; // the page scrolls on
      event.preventDefault();
      const area = canvas.getBoundingClientRect();
      current().zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, (event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
    }, { passive: false });
  }

  function begin(place) {
    const canvas = place.querySelector(".canvas"), said = place.querySelector("[data-said]"), choice = place.querySelector("[data-grain]");
    let view = null, asked = 0;
    async function draw(grain) {
      const turn = ++asked;
      said.textContent = "Laying out…";
      try {
        const answer = await fetch(`${place.dataset.drawing}${grain ? `?grain=${grain}` : ""}`);
        if (!answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          throw new Error(page.querySelector(".refused")?.textContent.trim().replace(/\s+/g, " ") ?? "The graph cannot be had.");
        }
        const data = await answer.json();
        const laid = await layOut(place, data);
        if (turn !== asked) return;
        view = new View(canvas, picture(data, laid), laid.found);
        choice.replaceChildren(...data.grains.map((one) => new Option(WORDS[one], one, false, one === data.grain)));
        choice.disabled = data.grains.length < 2;
        said.textContent = `${data.boxes.length} boxes, ${data.edges.length} edges. Drag to move, Ctrl and the wheel to zoom.`;
        place.dataset.drawn = "yes";
      } catch (error) {
        if (turn === asked) said.textContent = error.message;
      }
    }
    choice.addEventListener("change", () => draw(choice.value));
    place.addEventListener("click", (event) => { const act = BUTTONS[event.target.dataset?.zoom]; if (act && view) act(view); });
    handle(canvas, () => view);
    new IntersectionObserver((seen, watcher) => {
      if (seen.some((one) => one.isIntersecting)) { watcher.disconnect(); draw(""); }
    }, { rootMargin: "300px" }).observe(canvas);
  }

  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".drawing").forEach(begin));
})();
