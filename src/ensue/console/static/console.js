// The little that a server cannot do: a key for the search, a chart, and saying when the connection is lost.
"use strict";

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    document.getElementById("find")?.focus();
  }
  if (event.key === "Escape" && typing) typing.blur();
});

// --- what is live

function told(alive) {
  for (const each of document.querySelectorAll(".live")) {
    each.classList.toggle("lost", !alive);
    each.textContent = alive ? "live" : "connection lost, trying again";
  }
}
document.addEventListener("htmx:sseOpen", () => told(true));
document.addEventListener("htmx:sseError", () => told(false));
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.matches?.(".drawing")) told(event.detail.successful);
});

// Who does not look is told nothing: a tab behind others holds no connection, of which a browser has few.
const open = new Map(), closed = new Set();
document.addEventListener("htmx:sseOpen", (event) => open.set(event.target, event.detail.source));
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.matches?.(".drawing")) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    for (const [place, source] of open) {
      source.close();
      closed.add(place);
    }
    open.clear();
    return;
  }
  for (const place of closed) {
    const parts = place.isConnected ? [place, ...place.querySelectorAll("[sse-swap]")] : [];
    for (const each of parts) htmx.trigger(each, "htmx:afterProcessNode"); // the extension opens it again
  }
  closed.clear();
});

// A part that is about to be replaced keeps the form that somebody has opened in it.
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  const part = event.target;
  if (part.querySelector("details.act[open], input:focus, button:focus, summary:focus")) event.preventDefault();
});

// The live tail keeps its latest rows, each once: what comes again after a connection was lost stands there already.
const MOST_ROWS = 300;
document.addEventListener("htmx:sseMessage", (event) => {
  const rows = event.target.matches?.("tbody[data-tail]") ? event.target.rows : [];
  const seen = new Set();
  for (const row of [...rows]) {
    const position = row.cells[0].textContent;
    if (seen.has(position)) row.remove();
    seen.add(position);
  }
  for (let number = rows.length - 1; number >= MOST_ROWS; number--) rows[number].remove();
});

// --- the chart

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}

function chart(place) {
  if (typeof uPlot === "undefined") return;
  const points = [[], [], []];
  let plot = null;

  function axis(extra) {
    return { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 }, ...extra };
  }
  function series(label, name, dash) {
    return { label, stroke: colour(name), width: 2, dash, points: { show: false } };
  }
  function draw() {
    plot?.destroy();
    plot = new uPlot(
      {
        width: place.clientWidth, height: 170, padding: [null, 28, null, null], cursor: { y: false }, legend: { live: false },
        scales: { x: { range: (_, low, high) => [Math.min(low, high - 60), high] }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
        axes: [axis({ space: 90, values: (_, moments) => moments.map(clock) }), axis({ size: 55 })],
        series: [{ label: "at" }, series("recorded in a second", "--accent"), series("handled in a second", "--second", [6, 3])],
      },
      points, place,
    );
  }
  function add(rows) {
    for (const row of rows) {
      const [at] = row;
      if (points[0].length && at <= points[0][points[0].length - 1]) continue;
      row.forEach((value, number) => points[number].push(value));
      if (points[0].length > 400) points.forEach((each) => each.shift());
    }
    if (plot) plot.setData(points);
  }

  add(JSON.parse(place.dataset.points));
  draw();
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 170 })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.addEventListener("htmx:sseMessage", (event) => {
    const found = event.target.querySelector?.("[data-point]");
    if (found) add([JSON.parse(found.dataset.point)]);
  });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-points]").forEach(chart);
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  const all = document.getElementById("tick-all");
  all?.addEventListener("change", () => {
    document.querySelectorAll("input[name=letters]").forEach((each) => { each.checked = all.checked; });
  });
});
