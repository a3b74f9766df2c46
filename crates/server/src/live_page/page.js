// The live page: follows /pool/events and draws what comes. No build step; uPlot draws the charts.
"use strict";

const WINDOW = 600; // seconds that are drawn
const $ = (id) => document.getElementById(id);
let columns = []; // names of a sample's values
let samples = []; // the last ten minutes, oldest first
let charts = [];
let paused = false;
let heard = 0; // when the last event came
let source; // of the events

const CHARTS = [
  {
    id: "connections",
    series: [
      { name: "in_use", label: "in use", color: "--accent", fill: true, step: true },
      { name: "idle", label: "idle", color: "--idle", step: true },
      { name: "waiting", label: "waiting", color: "--wait", fill: true, step: true },
      { name: "limit", label: "limit", color: "--faint", dash: [6, 4], step: true },
    ],
    format: (value) => value.toFixed(0),
    whole: true,
  },
  {
    id: "throughput",
    series: [
      { name: "requests", label: "requests", color: "--accent", fill: true },
      { name: "errors", label: "errors (5xx)", color: "--bad" },
    ],
    format: (value) => value.toFixed(0),
    whole: true,
  },
  {
    id: "latency",
    series: [
      { name: "p50", label: "p50", color: "--idle", points: true },
      { name: "p99", label: "p99", color: "--accent", points: true },
    ],
    format: time,
  },
  {
    id: "times",
    series: [
      { name: "wait_p50", label: "wait p50", color: "--idle", points: true },
      { name: "wait_p99", label: "wait p99", color: "--wait", points: true },
      { name: "hold_p50", label: "hold p50", color: "--good", points: true },
      { name: "hold_p99", label: "hold p99", color: "--accent", points: true },
    ],
    format: time,
  },
];

/** Milliseconds for people. */
function time(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 0.1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(chart, width) {
  const axis = { stroke: color("--faint"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: 200,
    cursor: { sync: { key: "pool" }, points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: { range: span },
      y: { range: (_, _low, high) => [0, Math.max(high ?? 0, chart.whole ? 4 : 1) * 1.08] },
    },
    axes: [
      { ...axis, space: 70, size: 30, values: (_, at) => at.map((second) => clock(second, second % 60 ? { second: "2-digit" } : {})) },
      { ...axis, size: 58, incrs: chart.whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000] : undefined, values: (_, at) => at.map((value) => chart.format(value)) },
    ],
    series: [
      { label: "at", value: (_, at) => (at ? clock(at, { second: "2-digit" }) : "–") },
      ...chart.series.map((one) => ({
        label: one.label,
        stroke: color(one.color),
        width: 1.8,
        dash: one.dash,
        fill: one.fill ? color(one.color) + "2b" : undefined,
        paths: one.step ? uPlot.paths.stepped({ align: -1 }) : undefined,
        points: { show: one.points ?? false, size: 4 },
        value: (_, value) => (value === null || value === undefined ? "–" : chart.format(value)),
      })),
    ],
  };
}

/** From the first sample, but two minutes at least and ten at most, to the newest. */
function span() {
  const now = samples.length ? samples[samples.length - 1][0] : Date.now() / 1000;
  const first = samples.length ? samples[0][0] : now;
  return [Math.max(now - WINDOW, Math.min(first, now - 120)), now];
}

const clock = (second, more) => new Date(second * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...more });

function data(chart) {
  const at = (name) => columns.indexOf(name);
  return [samples.map((one) => one[0]), ...chart.series.map(({ name }) => samples.map((one) => one[at(name)]))];
}

function build() {
  for (const { plot } of charts) plot.destroy();
  charts = CHARTS.map((chart) => {
    const place = $(chart.id);
    return { chart, place, plot: new uPlot(options(chart, place.clientWidth), data(chart), place) };
  });
}

function draw() {
  for (const { chart, place, plot } of charts) {
    plot.setData(data(chart));
    // Where nobody points at a moment, the legend tells the newest.
    if (plot.cursor.left < 0) plot.setLegend({ idx: samples.length - 1 }, false);
    const last = samples[samples.length - 1];
    const values = chart.series.map(({ name, label }) => {
      const value = last?.[columns.indexOf(name)];
      return `${label} ${value === null || value === undefined ? "none" : chart.format(value)}`;
    });
    place.nextElementSibling.textContent = `Newest: ${values.join(", ")}.`;
  }
}

function set(id, text, alarm = false) {
  $(id).textContent = text;
  $(id).classList.toggle("alarm", alarm);
}

function show({ pool, holders }) {
  $("verdict").className = pool.state;
  if ($("state").textContent !== pool.state) $("state").textContent = pool.state;
  if ($("sentence").textContent !== pool.sentence) $("sentence").textContent = pool.sentence;
  const last = samples[samples.length - 1] ?? [];
  const value = (name) => last[columns.indexOf(name)];
  const minute = pool.last_minute;
  set("in_use", pool.in_use, pool.state === "full");
  set("limit", `of ${pool.limit}`);
  set("idle", pool.idle);
  set("waiting", pool.waiting, pool.waiting > 0);
  set("requests", value("requests") ?? "–");
  set("p99", time(value("p99")));
  set("errors", value("errors") ?? "–", value("errors") > 0);
  set("wait", time(minute.wait_ms.p99));
  set("hold", time(minute.hold_ms.p99));
  rows("holders", holders.map((one) => [time(one.held_ms), one.work ?? "", one.place ?? "", one.statement ?? ""]), [2, 3]);
  if (!holders.length) rows("holders", [["Nobody."]], []);
  replicas(pool.replicas);
  room(pool);
}

/** The primary and its replicas, and how many reads each has got. */
function replicas(known) {
  $("replicas-section").hidden = !known;
  if (!known) return;
  const all = known.reads_at_primary + known.each.reduce((sum, one) => sum + one.reads, 0);
  const share = (reads) => `${reads}${all ? ` (${Math.round((100 * reads) / all)} %)` : ""}`;
  rows("replicas", [
    ["primary", "", "", share(known.reads_at_primary), ""],
    ...known.each.map((one) => [one.name, one.state, one.lag_ms === null ? "" : time(one.lag_ms), share(one.reads), one.fallbacks || ""]),
  ], []);
}

/** Fills a table's body. Texts are set as texts: a statement cannot become markup. */
function rows(id, values, code) {
  $(id).replaceChildren(...values.map((row) => {
    const line = document.createElement("tr");
    row.forEach((text, index) => {
      const cell = line.insertCell();
      cell.textContent = text;
      if (code.includes(index)) cell.className = "code";
      if (text === "URL" || text === "code") cell.className = "set";
      if (row.length === 1) cell.colSpan = 4;
    });
    return line;
  }));
}

/** What the server allows, and what this pool and the others take of it. */
function room({ server, limit }) {
  if (!server) return;
  const share = (count) => `${Math.min(100, (100 * count) / server.usable)}%`;
  const [others, own] = $("room").children;
  others.style.width = share(server.others);
  own.style.width = share(limit);
  const words = `PostgreSQL ${server.version} allows ${server.usable} connections (max_connections is ${server.max_connections}). `
    + `Others have ${server.others} open, this pool may take ${limit}. All instances together should stay within `
    + `${server.budget} (80 %): there is room for ${server.room} more. `
    + `${server.instances === 1 ? "This instance is alone" : `${server.instances} instances share them`}; `
    + `with their limits and what everybody else has open, ${server.taken} are taken.`;
  $("server").textContent = words;
  $("room").setAttribute("aria-label", words);
}

function say(text, kind) {
  $("connection").textContent = text;
  $("connection").className = kind;
}

function follow() {
  source = new EventSource("/pool/events");
  const came = (event) => {
    heard = Date.now();
    if (!paused) say("live", "live");
    return JSON.parse(event.data);
  };
  source.addEventListener("first", (event) => {
    const first = came(event);
    ({ columns, samples } = first);
    rows("settings", first.settings, [0, 1]);
    if (paused) return;
    build();
    draw();
    show(first);
  });
  source.onmessage = (event) => {
    const next = came(event);
    const newest = samples[samples.length - 1]?.[0] ?? 0;
    if (next.sample && next.sample[0] > newest) samples.push(next.sample);
    while (samples.length > WINDOW) samples.shift();
    if (paused) return;
    draw();
    show(next);
  };
  source.onerror = () => {
    say("connection lost, trying again", "lost");
    // A browser does not try again after an answer that is none, such as a balancer's 503.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 1000);
  };
}

// A connection can die without a word, which a browser does not notice: after five seconds of silence another one is made.
setInterval(() => {
  if (!heard || Date.now() - heard < 5000 || source.readyState !== EventSource.OPEN) return;
  say("connection lost, trying again", "lost");
  heard = Date.now();
  source.close();
  follow();
}, 1000);

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  $("pause").textContent = paused ? "Continue" : "Pause";
  say(paused ? "paused" : "live", paused ? "" : "live");
  if (!paused) build();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.length && build());
new ResizeObserver(() => {
  for (const { place, plot } of charts) plot.setSize({ width: place.clientWidth, height: 200 });
}).observe($("charts"));
follow();
