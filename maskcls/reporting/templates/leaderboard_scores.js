"use strict";
const text = id => document.getElementById(id).textContent.trim();

async function inflate(id) {
  const bytes = Uint8Array.from(atob(text(id)), char => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ---- scores: the jackknife over people of maskcls/evaluation/intervals.py, on the predicted classes ----

let data, thumbnails;
const classesOf = rows => data.tasks[rows.task].classes;

function unpack(preds) {
  let start = 0;
  for (const rows of Object.values(data.rows)) {
    const n = rows.ids.length, type = rows.kind === "<u2" ? Uint16Array : Uint8Array;
    const bytes = preds.slice(start, start += n * rows.tables * type.BYTES_PER_ELEMENT);
    rows.preds = new type(bytes.buffer); // image by image: difference from the most frequent class
    rows.numPeople = Math.max(...rows.people.slice(0, 1), rows.people.reduce((a, b) => Math.max(a, b), 0)) + 1;
    rows.images = Array.from({ length: rows.numPeople }, () => []);
    rows.people.forEach((person, i) => rows.images[person].push(i));
  }
}

const predicted = (rows, table, i) => (rows.preds[i * rows.tables + table] + rows.common[i]) % classesOf(rows).length;

function f1(correct, total) { // total: labels + predictions of each class
  let sum = 0, occurring = 0;
  for (let c = 0; c < correct.length; c++) {
    sum += 2 * correct[c] / Math.max(total[c], 1);
    occurring += total[c] > 0;
  }
  return sum / Math.max(occurring, 1);
}

function leaveOneOut(rows, table) { // macro F1 of all people, then without each one, (1 + people)
  const n = rows.ids.length, size = classesOf(rows).length, correct = new Float64Array(size), total = new Float64Array(size);
  const classes = new Uint16Array(n), values = new Float64Array(rows.numPeople + 1);
  const count = (i, step) => {
    total[rows.labels[i]] += step;
    total[classes[i]] += step;
    if (rows.labels[i] === classes[i]) correct[classes[i]] += step;
  };
  for (let i = 0; i < n; i++) { classes[i] = predicted(rows, table, i); count(i, 1); }
  values[0] = f1(correct, total);
  rows.images.forEach((images, person) => {
    for (const i of images) count(i, -1);
    values[person + 1] = f1(correct, total);
    for (const i of images) count(i, 1);
  });
  return values;
}

function jackknife(score) { // of a run on some rows, the mean over its tables; kept
  if (!score.values) {
    const rows = data.rows[score.rows], [start, num] = score.tables;
    const values = new Float64Array(rows.numPeople + 1);
    for (let t = start; t < start + num; t++) leaveOneOut(rows, t).forEach((value, i) => { values[i] += value / num; });
    score.values = values;
  }
  return score.values;
}

function pairedDifference(score, other) {
  const rows = data.rows[score.rows], a = jackknife(score), b = jackknife(other), people = rows.numPeople;
  let mean = 0, squares = 0;
  for (let i = 1; i <= people; i++) mean += (a[i] - b[i]) / people;
  for (let i = 1; i <= people; i++) squares += (a[i] - b[i] - mean) ** 2;
  const difference = a[0] - b[0], margin = rows.t && rows.t * Math.sqrt((people - 1) * squares / people);
  return { f1: difference, part: rows.part,
           interval: rows.t ? [Math.max(difference - margin, -1), Math.min(difference + margin, 1)] : null };
}

function isComparable(score, other) {
  const a = data.rows[score.rows], b = data.rows[other.rows];
  return a === b || (a.digests.join() === b.digests.join() && !a.conflicts.includes(other.rows));
}

const primary = run => run.single || run.oof;
const pairs = (run, base) => [[primary(run), primary(base)], [run.oof, base.oof]];

function explain(run, base) {
  const a = data.rows[run.oof.rows], b = data.rows[base.oof.rows], counts = `${a.ids.length} and ${b.ids.length} images`;
  if (a.digests[0] !== b.digests[0]) return (run.data === base.data ? "other folds are scored: " : "other rows: ") + counts;
  if (a.digests[1] !== b.digests[1]) return `other labels: of ${a.labels.filter((label, i) => label !== b.labels[i]).length} images`;
  if (a.digests[2] !== b.digests[2]) return `other people of the same images: ${a.numPeople} and ${b.numPeople}`;
  return "other image files of the same names";
}

function compare(run, base) { // the difference of a run to the baseline, or why there is none
  if (!run.oof || !base || !base.oof || run === base) return null;
  const pair = pairs(run, base).find(([score, other]) => isComparable(score, other));
  if (!pair) return { why: explain(run, base) };
  if (!pair[0].tables || !pair[1].tables) return { why: "its predictions do not fit on this page: maskcls compare" };
  return { ...pairedDifference(...pair), note: run.folds === base.folds || pair[0] !== run.oof ? "" : "other folds" };
}
