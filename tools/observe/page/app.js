/** Asks once a second and draws what it is told. */
import { bytes, Chart, percent, short, time } from './chart.js';
import { Waterfall } from './waterfall.js';

const intervalMs = 1_000;
const samplesMax = 300;

const find = (selector) => document.querySelector(selector);
const waterfall = new Waterfall(find('#waterfall'));
const samples = [];
let roles = [];
/** The trace that is shown; `follows`: until somebody picks one, it is the newest. */
let shown;
let follows = true;

const sum = (values) => Object.values(values).reduce((a, b) => a + b, 0);
const most = (values) => Math.max(0, ...Object.values(values).filter((value) => value != null));

const leaderChanges = (seen) =>
  seen.flatMap((sample, i) => {
    const before = seen[i - 1];
    return before !== undefined && sample.leader !== undefined && before.term !== sample.term
      ? [{ atMs: sample.atMs, text: `${sample.leader} leads` }]
      : [];
  });

const chartOf = (options) => new Chart(find('#charts'), options);
const charts = [
  chartOf({
    title: 'Throughput',
    unit: 'requests per second',
    series: (s) => s.requests,
    least: 10,
    marks: leaderChanges,
  }),
  chartOf({
    title: 'Latency',
    unit: 'of requests at members',
    series: (s) => s.latency,
    format: time,
    least: 0.001,
  }),
  chartOf({ title: 'WAL fsync', unit: 'p99 by member', series: (s) => s.fsync, format: time, least: 0.001 }),
  chartOf({
    title: 'Term',
    unit: 'and who leads',
    series: (s) => ({ term: s.term }),
    steps: true,
    least: 2,
    marks: leaderChanges,
  }),
  chartOf({
    title: 'Lag',
    unit: 'entries to apply by member, revisions to deliver by gateway',
    series: (s) => ({ ...s.applyLag, ...s.watchLag }),
    least: 10,
  }),
  chartOf({
    title: 'Size',
    unit: 'of the versions kept, by member',
    series: (s) => s.dbBytes,
    format: bytes,
    binary: true,
    least: 1024,
  }),
  chartOf({ title: 'CPU', unit: 'share of one core', series: (s) => s.cpu, format: percent, least: 0.1 }),
  chartOf({
    title: 'Memory',
    unit: 'resident',
    series: (s) => s.memory,
    format: bytes,
    binary: true,
    least: 2 ** 20,
  }),
  chartOf({ title: 'Event loop delay', unit: 'p99', series: (s) => s.loopDelay, format: time, least: 0.01 }),
];

const tiles = [
  ['leader', 'leader', (s) => s.leader ?? 'none'],
  ['term', 'term', (s) => String(s.term)],
  ['throughput', 'requests/s', (s) => short(sum(s.requests))],
  ['puts', 'puts/s', (s) => short(s.requests.put)],
  ['latency', 'p99 latency', (s) => time(s.latency.p99)],
  ['fsync', 'p99 fsync', (s) => time(most(s.fsync) || undefined)],
  ['revision', 'revision', (s) => s.revision.toLocaleString('en')],
  ['watchers', 'watchers', (s) => short(s.watchers)],
  ['size', 'size', (s) => bytes(most(s.dbBytes))],
].map(([id, label, read]) => {
  const tile = document.createElement('div');
  tile.className = 'tile';
  const value = document.createElement('b');
  value.id = `now-${id}`;
  value.textContent = '–';
  const name = document.createElement('span');
  name.textContent = label;
  tile.append(value, name);
  find('#tiles').append(tile);
  return { value, read };
});

function drawRoles(sample) {
  find('#roles').replaceChildren(
    ...roles.map(({ name, kind }) => {
      const item = document.createElement('li');
      item.textContent = name === sample.leader ? `${name} leads` : name === kind ? name : `${kind} ${name}`;
      if (!sample.up.includes(name)) item.className = 'down';
      else if (name === sample.leader) item.className = 'leader';
      return item;
    }),
  );
}

function drawSamples() {
  const now = samples.at(-1);
  if (now === undefined) return;
  drawRoles(now);
  for (const { value, read } of tiles) value.textContent = read(now);
  for (const chart of charts) chart.draw(samples, now.atMs);
}

async function pick(summary) {
  const response = await fetch(`trace?id=${summary.id}`);
  if (!response.ok) return;
  const { spans } = await response.json();
  shown = summary.id;
  waterfall.show(summary, spans);
  for (const row of find('#list tbody').children) row.classList.toggle('picked', row.dataset.id === shown);
}

function drawTraces(traces, spans) {
  find('#spans').textContent = `${short(spans)} spans so far`;
  find('#list tbody').replaceChildren(
    ...traces.map((trace) => {
      const row = document.createElement('tr');
      row.dataset.id = trace.id;
      row.classList.toggle('picked', trace.id === shown);
      row.classList.toggle('problem', trace.problem);
      const at = new Date(trace.atMs).toLocaleTimeString('en-GB');
      const button = document.createElement('button');
      button.textContent = trace.name.replace(/^etcdserverpb\.|^v3\w+pb\./, '');
      [at, button, time(trace.durationUs / 1e6), String(trace.spans)].forEach((content, i) => {
        const cell = document.createElement('td');
        if (i > 1) cell.className = 'n';
        cell.append(content);
        row.append(cell);
      });
      row.addEventListener('click', () => {
        follows = false;
        pick(trace);
      });
      return row;
    }),
  );
  const newest = traces[0];
  if (follows && newest !== undefined && newest.id !== shown && !find('#rows').matches(':hover'))
    pick(newest);
}

async function poll() {
  const status = find('#status');
  try {
    const response = await fetch(`state?since=${samples.at(-1)?.atMs ?? 0}`);
    const state = await response.json();
    roles = state.roles;
    samples.push(...state.samples);
    samples.splice(0, Math.max(0, samples.length - samplesMax));
    find('#subtitle').textContent =
      `${roles.filter((r) => r.kind === 'member').length} members, ${roles.filter((r) => r.kind === 'gateway').length} gateways`;
    drawSamples();
    drawTraces(state.traces, state.spans);
    status.className = '';
    status.textContent = `as of ${new Date().toLocaleTimeString('en-GB')}`;
  } catch (error) {
    status.className = 'bad';
    status.textContent = `the cluster does not answer: ${error.message}`;
  }
  setTimeout(poll, intervalMs);
}

poll();
