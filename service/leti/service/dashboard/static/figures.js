// Figures: what the server put together is drawn here, in the colours of the page.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const charts = new Map();
  const SYMBOLS = ["circle", "rect", "triangle", "diamond", "pin", "arrow", "emptyCircle", "emptyRect"];
  const each = (names, choices) => names.map((_, i) => choices[i % choices.length]);

  const number = (value) => {
    if (typeof value === "string") return value.length > 40 ? `${value.slice(0, 16)}…` : value;
    if (typeof value !== "number") return value ?? "–";
    return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
  };

  function axis(given, text, rule) {
    const one = (given) => ({
      nameGap: 34, nameTextStyle: { color: text }, ...given,
      axisLabel: { color: text, hideOverlap: true, ...(given.axisLabel ?? {}) },
      axisLine: { lineStyle: { color: rule } },
      splitLine: { lineStyle: { color: rule, opacity: 0.5 } },
    });
    return Array.isArray(given) ? given.map(one) : one(given);
  }

  // A tooltip is drawn, never put together as HTML: names of networks are anybody's text.
  function tooltip(figure, text, paper) {
    return {
      trigger: "item", renderMode: "richText", confine: true,
      backgroundColor: paper, textStyle: { color: text, fontSize: 12 },
      formatter: (item) => {
        const source = figure.option.dataset.source;
        if (item.dataIndex === undefined || item.seriesName === undefined || !item.encode) return item.name ?? "";
        const lines = Object.entries(figure.titles)
          .filter(([key]) => source[key] !== undefined)
          .map(([key, title]) => `${title}: ${number(source[key][item.dataIndex])}`);
        return lines.join("\n");
      },
    };
  }

  // What JSON cannot say: a line from one column to another, with its ends.
  function whiskers({ whiskers: [place, low, high], across, ...series }, text) {
    const renderItem = (_, api) => {
      const at = (value) => api.coord(across ? [value, api.value(place)] : [api.value(place), value]);
      const ends = [at(api.value(low)), at(api.value(high))];
      if (!ends.flat().every(Number.isFinite)) return undefined;
      const line = ([x1, y1], [x2, y2]) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: text, opacity: 0.6 } });
      const end = ([x, y]) => (across ? line([x, y - 5], [x, y + 5]) : line([x - 5, y], [x + 5, y]));
      return { type: "group", children: [line(...ends), ...ends.map(end)] };
    };
    return { ...series, renderItem, silent: true };
  }

  function finished(figure, width) {
    const text = colour("--leti-text"), rule = colour("--leti-rule"), paper = colour("--leti-paper");
    const option = structuredClone(figure.option);
    const palette = colour("--leti-palette").split(" ");
    option.color = palette;
    option.backgroundColor = "transparent";
    option.animation = false;
    option.textStyle = { fontFamily: "inherit", color: text };
    if (option.xAxis) option.xAxis = axis(option.xAxis, text, rule);
    if (option.yAxis) option.yAxis = axis(option.yAxis, text, rule);
    option.series = (option.series ?? []).map((series) => {
      if (series.whiskers) return whiskers(series, text);
      if (!series.mark) return series;
      const { mark, ...rest } = series;
      if (rest.markLine) Object.assign(rest.markLine.lineStyle, { color: text, opacity: 0.6 }), Object.assign(rest.markLine.label, { color: text });
      if (rest.endLabel) Object.assign(rest.endLabel, { color: text, textBorderWidth: 0 });
      return { ...rest, lineStyle: { ...rest.lineStyle, color: text, opacity: 0.6 }, tooltip: { show: false } };
    });
    const names = option.series.filter((one, at) => !figure.option.series[at].mark).map((one) => one.name);
    option.legend ??= { show: names.filter(Boolean).length > 1, top: 0, type: "scroll", data: [...new Set(names)].filter(Boolean) };
    option.legend.textStyle = { color: text };
    if (option.visualMap) {
      const { categories } = option.visualMap;
      const shown = categories
        ? { left: "center", itemHeight: 11, itemWidth: 11, inRange: { color: each(categories, palette), symbol: each(categories, SYMBOLS) } }
        : { right: 0, itemHeight: 80, itemWidth: 10, inRange: { color: colour("--leti-ramp").split(" ") } };
      if (categories && categories.join("").length * 8 + categories.length * 40 > width) { // on a phone, one below the other
        Object.assign(shown, { orient: "vertical", itemGap: 4 });
        option.grid = { ...option.grid, top: 20 + 18 * categories.length };
      }
      option.visualMap = { top: 0, orient: "horizontal", textStyle: { color: text }, ...shown, ...option.visualMap };
    }
    option.tooltip = tooltip(figure, text, paper);
    option.aria = { enabled: false }; // the sentence and the table say it
    return option;
  }

  function draw(place) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    const chart = echarts.init(place, null, { renderer: "canvas" });
    charts.set(chart, figure);
    chart.setOption(finished(figure, chart.getWidth()));
    if (figure.link) {
      chart.on("click", (item) => {
        const value = figure.option.dataset.source[figure.link.key]?.[item.dataIndex];
        if (item.encode && value) location.assign(figure.link.page.replace("{}", encodeURIComponent(value)));
      });
    }
    new ResizeObserver(() => chart.resize()).observe(place);
    place.dataset.drawn = "yes";
    place.chart = chart;
  }

  const drawAll = (root) => {
    for (const place of root.querySelectorAll(".plot:not([data-drawn])")) draw(place);
  };

  addEventListener("DOMContentLoaded", () => {
    drawAll(document);
    htmx.onLoad((part) => drawAll(part.parentNode ?? part));
  });
  addEventListener("leti:theme", () => {
    for (const [chart, figure] of charts) {
      if (chart.getDom().isConnected) chart.setOption(finished(figure, chart.getWidth()), true);
      else { chart.dispose(); charts.delete(chart); }
    }
  });
  document.addEventListener("click", (event) => {
    const name = event.target.dataset?.png;
    if (!name) return;
    const chart = event.target.closest("figure").querySelector(".plot").chart;
    const link = document.createElement("a");
    link.href = chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: colour("--leti-paper") });
    link.download = `${name}.png`;
    link.click();
  });
})();
