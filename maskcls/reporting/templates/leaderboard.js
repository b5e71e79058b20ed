"use strict";
const { html, render, useState, useMemo, useEffect, useRef } = htmPreact;

// ---- text ----

const fixed = (value, digits = 3) => value.toFixed(digits);
const signed = value => (value < 0 ? "-" : "+") + fixed(Math.abs(value));
const interval = (pair, format) => pair ? `[${format(pair[0])}, ${format(pair[1])}]` : "(n < 20 people)";
const verdict = difference => !difference || !difference.interval ? "" : difference.interval[0] > 0 ? "good" : difference.interval[1] < 0 ? "bad" : "";
const wordsOf = run => data.tasks[run.task].parameters.filter(key => key in run.words).map(key => `${key}=${run.words[key]}`);
const duration = s => s === null ? "" : s < 60 ? `${s.toFixed(0)} s` : s < 3600 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min`;

// ---- table ----

function columnsOf(task, differences) {
  const has = key => task.runs.some(run => run[key]);
  const scored = (key, label, value, cell) => ({ key, label, value, cell, down: true });
  const difference = run => differences.get(run);
  return [
    { key: "-name", label: "run", kind: "text name", value: run => run.name,
      cell: run => html`${run.href ? html`<a href=${run.href}>${run.name}</a>` : run.name}${run.leak && html` <strong class="bad" title=${run.leak}>LEAK</strong>`}` },
    { key: "-state", label: "state", kind: "text state", value: run => run.state,
      cell: run => html`<b>${run.state}</b> ${run.detail}` },
    scored("-oof", "out-of-fold F1", run => run.oof && run.oof.f1,
           run => run.oof && html`${fixed(run.oof.f1)} <small>${interval(run.oof.interval, fixed)}</small>`),
    has("single") && scored("-single", "evaluation F1, one fold", run => run.single && run.single.f1,
           run => run.single && html`${fixed(run.single.f1)} <small>${run.single.sd === null ? interval(run.single.interval, fixed) : `± ${fixed(run.single.sd)}`}</small>`),
    scored("-difference", "F1 to the baseline", run => difference(run) && difference(run).f1, run => html`<${Difference} of=${difference(run)} />`),
    ...task.parameters.map(key => ({ key, label: key, kind: "text word", value: run => run.words[key] })),
    has("group") && { key: "-group", label: "group", kind: "text", value: run => run.group },
    { key: "-seconds", label: "training", value: run => run.seconds, cell: run => duration(run.seconds) },
    { key: "-date", label: "begun", kind: "text", value: run => run.date },
  ].filter(Boolean).map(column => ({ kind: "", cell: column.value, ...column }));
}

function Difference({ of }) {
  if (!of) return "";
  if (of.why) return html`<small>${of.why}</small>`;
  return html`<span data-f1=${of.f1} data-low=${of.interval && of.interval[0]} data-high=${of.interval && of.interval[1]}
    ><b class=${verdict(of)}>${signed(of.f1)}</b> <small>${interval(of.interval, signed)}${of.part === "oof" ? " out of fold" : ""}${of.note && `, ${of.note}`}</small></span>`;
}

const collator = new Intl.Collator("en", { numeric: true });
function sortRuns(runs, column, down) { // a leak raises a score, so by scores these runs come after the others
  const isMissing = value => value === undefined || value === null || value === "";
  const order = (a, b) => typeof a === "number" ? a - b : isNaN(a) || isNaN(b) ? collator.compare(a, b) : a - b;
  return [...runs].sort((one, two) => {
    const a = column.value(one), b = column.value(two);
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    return column.down && Boolean(one.leak) - Boolean(two.leak) || (down ? -1 : 1) * order(a, b);
  });
}

function matches(run, words) {
  run.text ||= [run.name, run.group, run.state, run.detail, run.date, run.leak, ...wordsOf(run)].join(" ").toLowerCase();
  run.given ||= [...run.text.split(/\s+/), ...run.text.split(/[\s,/]+/)].filter(word => word.includes("="));
  return words.every(word => /=./.test(word) ? run.given.some(one => isGiven(word, one)) : run.text.includes(word));
}

function isGiven(word, given) { // lr=0.1 is optimizer.lr=0.10, and not optimizer.lr=0.15
  const [key, value] = splitWord(word), [name, other] = splitWord(given);
  const isSame = value === other || (value.trim() && Number(value) === Number(other));
  return isSame && (name === key || name.endsWith("." + key));
}

const splitWord = word => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)];

const MANY = 200;
function Board({ task, base, setBase, picked, toggle }) {
  const [filter, setFilter] = useState(""), [state, setState] = useState(""), [all, setAll] = useState(false);
  const [sort, setSort] = useState({ key: "-oof", down: true });
  const differences = useMemo(() => new Map(task.runs.map(run => [run, compare(run, base)])), [base]);
  const columns = useMemo(() => columnsOf(task, differences), [differences]);
  const column = columns.find(one => one.key === sort.key);
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const runs = sortRuns(task.runs.filter(run => matches(run, words) && (!state || run.state === state)), column, sort.down);
  const choose = key => setSort({ key, down: key === sort.key ? !sort.down : Boolean(columns.find(one => one.key === key).down) });
  const shown = all ? runs : runs.slice(0, MANY), states = [...new Set(task.runs.map(run => run.state))];
  return html`
    <div class="controls" role="search">
      <label class="grow">filter: words that a run must have, such as loss=focal
        <input type="search" id="filter" value=${filter} onInput=${event => setFilter(event.target.value)} /></label>
      <label>state <select id="state" value=${state} onChange=${event => setState(event.target.value)}>
        <option value="">all</option>${states.map(name => html`<option value=${name}>${name}</option>`)}</select></label>
      <label>sort by <select id="sort" value=${sort.key} onChange=${event => choose(event.target.value)}>
        ${columns.map(one => html`<option value=${one.key}>${one.label}</option>`)}</select></label>
      <button onClick=${() => choose(sort.key)} aria-label="reverse the order">${sort.down ? "▼ falling" : "▲ rising"}</button>
    </div>
    <p class="soft" role="status" id="count">${runs.length} of ${task.runs.length} runs. Intervals (95 %) are over ${task.people}; differences are paired, on the labelled evaluation set, else out of fold.</p>
    <div class="scroll" tabindex="0" role="region" aria-label="runs"><table id="board">
      <thead><tr><th class="plain" scope="col">baseline</th><th class="plain" scope="col">compare</th>
        ${columns.map(one => html`<th scope="col" class=${one.kind} aria-sort=${one.key === sort.key ? (sort.down ? "descending" : "ascending") : "none"}>
          <button onClick=${() => choose(one.key)}>${one.label}</button></th>`)}</tr></thead>
      <tbody>${shown.map(run => html`<${Row} key=${run.name} run=${run} columns=${columns} isBase=${run === base} isPicked=${picked.includes(run)} setBase=${setBase} toggle=${toggle} />`)}</tbody>
    </table></div>
    ${shown.length < runs.length && html`<p><button onClick=${() => setAll(true)}>show the other ${runs.length - shown.length} runs</button></p>`}`;
}

function Row({ run, columns, isBase, isPicked, setBase, toggle }) {
  return html`<tr class=${[run.oof ? "" : "off", isBase || isPicked ? "picked" : ""].join(" ")} data-run=${run.name}>
    <td class="pick" data-label="baseline"><input type="radio" name="baseline" checked=${isBase} disabled=${!run.oof} aria-label=${`baseline ${run.name}`} onChange=${() => setBase(run)} /></td>
    <td class="pick" data-label="compare"><input type="checkbox" checked=${isPicked} disabled=${!run.oof && !run.curves} aria-label=${`compare ${run.name}`} onChange=${() => toggle(run)} /></td>
    ${columns.map(one => html`<td class=${one.kind + (one.key === "-difference" ? " wide" : "")} data-label=${one.label} title=${one.kind.includes("word") ? run.words[one.key] : undefined}
      >${isBase && one.key === "-difference" ? html`<small>baseline</small>` : one.cell(run)}</td>`)}</tr>`;
}

// ---- two runs side by side ----

function votes(score) { // the class that most tables of a run predict for each image
  const rows = data.rows[score.rows], [start, num] = score.tables;
  return rows.ids.map((_, i) => {
    if (num === 1) return predicted(rows, start, i);
    const counts = new Uint16Array(classesOf(rows).length);
    for (let t = start; t < start + num; t++) counts[predicted(rows, t, i)]++;
    return counts.indexOf(Math.max(...counts));
  });
}

function classRows(rows, a, b) {
  const score = (classes, c) => {
    let correct = 0, total = 0;
    classes.forEach((one, i) => { total += (one === c) + (rows.labels[i] === c); correct += one === c && rows.labels[i] === c; });
    return total ? 2 * correct / total : null;
  };
  const changed = (from, to, c) => rows.labels.filter((label, i) => label === c && from[i] !== c && to[i] === c).length;
  return classesOf(rows).map((name, c) => ({ name, images: rows.labels.filter(label => label === c).length, a: score(a, c), b: score(b, c),
                                         mended: changed(a, b, c), broken: changed(b, a, c) }))
    .filter(row => row.a !== null || row.b !== null).map(row => ({ ...row, difference: (row.b || 0) - (row.a || 0) }))
    .sort((one, two) => two.difference - one.difference);
}

function Pair({ a, b }) {
  const difference = compare(b, a);
  const pair = b.oof && a.oof && [...pairs(b, a)].reverse().find(([score, other]) => isComparable(score, other) && score.tables && other.tables);
  const other = data.tasks[a.task].parameters.filter(key => a.words[key] !== b.words[key]);
  const facts = run => html`${run.href ? html`<a href=${run.href}>${run.name}</a>` : run.name} <span class="soft">${run.oof ? `F1 ${fixed(run.oof.f1)} ${interval(run.oof.interval, fixed)}` : run.state}</span>`;
  return html`
    <dl class="pair"><dt>A, the baseline</dt><dd>${facts(a)}</dd><dt>B</dt><dd>${facts(b)}</dd>
      <dt>F1 of B to A</dt><dd id="pair-difference">${difference ? html`<${Difference} of=${difference} />` : "B has no scores"}</dd>
      <dt>differs in</dt><dd>${other.length ? other.map(key => html`<div><code>${key}</code>: ${a.words[key] ?? "–"} → ${b.words[key] ?? "–"}</div>`) : "no parameter of this table"}</dd></dl>
    ${pair ? html`<${Changes} key=${a.name + b.name} a=${pair[1]} b=${pair[0]} />` : html`<p class="soft">Classes and photos cannot be compared${difference && difference.why ? `: ${difference.why}` : ""}.</p>`}`;
}

function Changes({ a, b }) {
  const rows = data.rows[b.rows], [was, is] = useMemo(() => [votes(a), votes(b)], [a, b]);
  const classes = classRows(rows, was, is), kind = rows.part === "oof" ? "out of fold" : "on the evaluation set, the most frequent class of the folds";
  const list = (from, to) => rows.ids.map((_, i) => i).filter(i => from[i] !== rows.labels[i] && to[i] === rows.labels[i]);
  const half = [["B mends", "good", list(was, is)], ["B breaks", "bad", list(is, was)]];
  return html`
    <h3>Classes gained and lost, ${kind}</h3>
    <div class="columns"><div><table id="classes"><thead><tr><th class="plain text">class</th><th class="plain">change</th><th class="plain">F1 of A</th><th class="plain">F1 of B</th><th class="plain">images</th><th class="plain">mended</th><th class="plain">broken</th></tr></thead>
      <tbody>${classes.map(row => html`<tr><td class="text">${row.name}</td>
        <td class=${row.difference > 0 ? "good" : row.difference < 0 ? "bad" : ""}>${row.difference > 0 ? "▲ " : row.difference < 0 ? "▼ " : ""}${signed(row.difference)}</td>
        <td>${row.a === null ? "–" : fixed(row.a)}</td><td>${row.b === null ? "–" : fixed(row.b)}</td><td>${row.images}</td><td>${row.mended || ""}</td><td>${row.broken || ""}</td></tr>`)}</tbody></table></div></div>
    ${rows.missing && html`<p class="warn">No photos: ${rows.missing}.</p>`}
    <div class="columns">${half.map(([title, tone, images]) => html`<div id=${tone === "good" ? "mends" : "breaks"}><h3 class=${tone}>${title} ${images.length} photo${images.length === 1 ? "" : "s"}</h3>
      <${Photos} rows=${rows} images=${images} was=${was} is=${is} /></div>`)}</div>`;
}

function Photos({ rows, images, was, is }) {
  const [limit, setLimit] = useState(24);
  const ordered = [...images.filter(i => i in rows.photos), ...images.filter(i => !(i in rows.photos))];
  const name = c => classesOf(rows)[c];
  return html`<div class="faces">${ordered.slice(0, limit).map(i => html`<figure key=${rows.ids[i]}>
      ${i in rows.photos ? html`<img src=${`data:image/webp;base64,${thumbnails[rows.photos[i]]}`} alt=${`${rows.ids[i]}, ${name(rows.labels[i])}`} />` : html`<div class="gone">${rows.missing ? "photo gone" : "photo not on this page"}</div>`}
      <figcaption><b>${name(rows.labels[i])}</b><br />A ${name(was[i])}<br />B ${name(is[i])}<br /><span class="id">${rows.ids[i]}</span></figcaption></figure>`)}</div>
    ${limit < images.length && html`<p><button onClick=${() => setLimit(limit + 96)}>show more (${images.length - limit})</button></p>`}`;
}

// ---- learning curves ----

const MOST_CURVES = 8;
function Curves({ runs }) {
  const [key, setKey] = useState("f1"), box = useRef(null), [theme, setTheme] = useState(0);
  const drawn = runs.filter(run => run.curves).slice(0, MOST_CURVES);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)"), redraw = () => setTheme(count => count + 1);
    query.addEventListener("change", redraw);
    addEventListener("resize", redraw);
    return () => { query.removeEventListener("change", redraw); removeEventListener("resize", redraw); };
  }, []);
  useEffect(() => {
    const style = getComputedStyle(document.documentElement), color = name => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--ink"), grid: { stroke: color("--line") }, ticks: { stroke: color("--line") } };
    const series = drawn.map((run, i) => ({ label: run.name, stroke: color(`--c${i}`), width: 2, points: { size: 5 }, value: (_, value) => value === null || value === undefined ? "" : value.toPrecision(4) }));
    const lines = uPlot.join(drawn.map(run => [run.curves.epoch, run.curves[key]]));
    const chart = new uPlot({ width: box.current.clientWidth, height: 280, scales: { x: { time: false } },
      hooks: { ready: [ready => ready.setLegend({ idx: lines[0].length - 1 }, false)] }, series: [{ label: "epoch" }, ...series], axes: [{ ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] }, axis] }, lines, box.current);
    return () => chart.destroy();
  }, [key, theme, drawn.map(run => run.name).join("\n")]);
  const label = drawn.map(run => `${run.name}: ${run.curves[key].filter(value => value !== null).at(-1)}`).join("; ");
  return html`<div class="controls"><label>curve, the mean over the folds <select id="curve" value=${key} onChange=${event => setKey(event.target.value)}>
      ${Object.entries(data.curves).map(([name, title]) => html`<option value=${name}>${title}</option>`)}</select></label></div>
    ${runs.length > drawn.length && html`<p class="soft">The first ${drawn.length} of ${runs.length} runs with a log are drawn.</p>`}
    <div class="chart" ref=${box} role="img" aria-label=${`${data.curves[key]} by epoch; at the last epoch ${label}`}></div>`;
}

// ---- page ----

function TaskRuns({ task }) {
  const [base, setBase] = useState(task.baseline === null ? null : task.runs[task.baseline]), [picked, setPicked] = useState([]);
  const toggle = run => setPicked(runs => runs.includes(run) ? runs.filter(one => one !== run) : [...runs, run]);
  const others = picked.filter(run => run !== base), last = others.at(-1), curves = [base, ...others].filter(run => run && run.curves);
  return html`<${Board} task=${task} base=${base} setBase=${setBase} picked=${picked} toggle=${toggle} />
    <div class="jump"><a href="#pair">${last ? `compare ${last.name} with the baseline ↓` : "tick a run to compare it with the baseline"}</a></div>
    <section id="pair" aria-label="two runs" aria-live="polite"><h2>Two runs side by side</h2>
      ${base && last ? html`<${Pair} a=${base} b=${last} />
        <p><button disabled=${!last.oof} onClick=${() => { setPicked(runs => [...runs.filter(run => run !== last && run !== base), base]); setBase(last); }}>swap A and B</button></p>`
      : html`<p class="soft">Tick <b>compare</b> at a run: it is compared with the baseline.</p>`}</section>
    <section aria-label="learning curves"><h2>Learning curves</h2>
      ${curves.length ? html`<${Curves} runs=${curves} />` : html`<p class="soft">No run with a log is chosen.</p>`}</section>`;
}

function Page() {
  const [index, setIndex] = useState(0);
  const counts = Object.entries(Object.groupBy ? Object.groupBy(data.runs, run => run.state) : {}).map(([state, runs]) => `${runs.length} ${state}`);
  return html`<h1>Leaderboard of ${data.folder}</h1>
    <p class="soft">${data.runs.length ? counts.join(", ") : "This folder contains no runs"}; made ${data.made}. This page makes no request.</p>
    ${data.notes.map(note => html`<p class="warn">${note}</p>`)}
    ${data.tasks.length > 1 && html`<div class="controls"><label>task: runs of different tasks are not compared
      <select id="task" value=${index} onChange=${event => setIndex(Number(event.target.value))}>
        ${data.tasks.map((task, i) => html`<option value=${i}>${task.name}: ${task.classes.length} classes, ${task.runs.length} run${task.runs.length === 1 ? "" : "s"}</option>`)}</select></label></div>`}
    ${data.runs.length > 0 && html`<${TaskRuns} key=${index} task=${data.tasks[index]} />`}`;
}

async function start() {
  data = JSON.parse(new TextDecoder().decode(await inflate("data")));
  data.tasks.forEach((task, i) => { task.runs = data.runs.filter(run => run.task === i); });
  unpack(await inflate("preds"));
  thumbnails = text("photos").split(" ");
  const page = document.getElementById("page");
  page.replaceChildren();
  render(html`<${Page} />`, page);
  document.documentElement.dataset.ready = "true";
}

start().catch(error => {
  document.getElementById("page").textContent = `This page cannot be shown (${error.message}). It needs a browser of 2023 or later.`;
  throw error;
});
