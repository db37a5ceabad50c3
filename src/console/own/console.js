// What the console's pages need beside htmx: charts, the live list, and no polling of pages that nobody sees.
(function () {
  "use strict";

  // Of the live list so many rows are kept.
  var ROWS_MAX = 500;

  // How often a chart is drawn anew; the bus takes a sample every ten seconds.
  var CHART_EVERY_MS = 10000;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // Numbers as a person reads them.
  function shown(value) {
    if (value === null || value === undefined) return "–";
    var size = Math.abs(value);
    if (size >= 1e6) return (value / 1e6).toFixed(1) + " M";
    if (size >= 1e4) return (value / 1e3).toFixed(1) + " k";
    return size >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(2);
  }

  function clock(seconds) {
    return new Date(seconds * 1000).toTimeString().slice(0, 8);
  }

  function axis(extra) {
    var own = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1 },
      font: "11px system-ui, sans-serif",
    };
    return Object.assign(own, extra);
  }

  function options(element, data) {
    var colours = ["--series-1", "--series-2", "--series-3", "--series-4"].map(colour);
    return {
      width: Math.max(element.clientWidth, 240),
      height: 180,
      cursor: { points: { size: 6 } },
      scales: { y: { range: function (_, low, high) { return [Math.min(0, low || 0), high > 0 ? high * 1.1 : 1]; } } },
      axes: [axis({ space: 70, values: function (_, ticks) { return ticks.map(clock); } }), axis({ size: 56, values: function (_, ticks) { return ticks.map(shown); } })],
      series: [{ label: "at", value: function (_, at) { return at ? clock(at) : "–"; } }].concat(data.series.map(function (one, index) {
        return {
          label: one.label, stroke: colours[index % colours.length], width: 1.5, spanGaps: false, points: { show: false },
          value: function (_, value) { return shown(value); },
        };
      })),
    };
  }

  function columns(data) {
    return [data.times].concat(data.series.map(function (one) { return one.values; }));
  }

  function Chart(element) {
    this.element = element;
    this.plot = null;
    this.refresh = this.refresh.bind(this);
    this.refresh();
    setInterval(this.refresh, CHART_EVERY_MS);
    var chart = this;
    new ResizeObserver(function () {
      if (chart.plot) chart.plot.setSize({ width: Math.max(element.clientWidth, 240), height: 180 });
    }).observe(element);
    // Colours are those of the scheme.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
      if (chart.plot) chart.plot.destroy();
      chart.plot = null;
      chart.refresh();
    });
  }

  Chart.prototype.refresh = function () {
    if (document.hidden) return;
    var chart = this;
    fetch(this.element.dataset.chart, { headers: { Accept: "application/json" } })
      .then(function (answer) { return answer.ok ? answer.json() : null; })
      .then(function (data) {
        if (!data || data.times.length < 2) return;
        if (chart.plot) return chart.plot.setData(columns(data));
        chart.element.textContent = "";
        chart.plot = new uPlot(options(chart.element, data), columns(data), chart.element);
      })
      .catch(function () { /* The bus is away: what is drawn stays. */ });
  };

  // The newest row is the first; old ones go.
  function trim(list) {
    while (list.children.length > ROWS_MAX) list.lastElementChild.remove();
  }

  function live(list) {
    var button = document.getElementById("live-pause");
    var held = document.getElementById("live-held");
    var paused = false;
    var waiting = [];
    var missed = 0;
    // While it is paused rows are held back, as many as would be shown.
    list.addEventListener("htmx:sseBeforeMessage", function (event) {
      if (!paused) return;
      event.preventDefault();
      waiting.push(event.detail.data);
      if (waiting.length > ROWS_MAX) { waiting.shift(); missed += 1; }
      held.textContent = waiting.length + missed + " more since";
    });
    list.addEventListener("htmx:sseMessage", function () { trim(list); });
    button.hidden = false;
    button.addEventListener("click", function () {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? "Go on" : "Pause";
      if (paused) return;
      waiting.forEach(function (row) { htmx.swap(list, row, { swapStyle: "afterbegin" }); });
      waiting = [];
      missed = 0;
      held.textContent = "";
      trim(list);
    });
  }

  // A box in the head of a list ticks all of its rows.
  function tickAll(box) {
    box.hidden = false;
    box.addEventListener("change", function () {
      box.form.querySelectorAll("input[name=ids]").forEach(function (one) { one.checked = box.checked; });
    });
  }

  document.addEventListener("htmx:beforeRequest", function (event) {
    // Polls of a page that nobody sees wait until somebody does.
    if (document.hidden && event.detail.requestConfig.verb === "get") event.preventDefault();
  });

  // What was shown stays, and it is said that it is old.
  ["htmx:sendError", "htmx:responseError", "htmx:sseError", "htmx:afterOnLoad", "htmx:sseOpen"].forEach(function (name) {
    document.addEventListener(name, function () {
      document.getElementById("away").hidden = !/Error/.test(name);
    });
  });

  document.addEventListener("DOMContentLoaded", function () {
    document.querySelectorAll("[data-chart]").forEach(function (element) { new Chart(element); });
    document.querySelectorAll("[data-tick-all]").forEach(tickAll);
    var list = document.getElementById("live-rows");
    if (list) live(list);
  });
})();
