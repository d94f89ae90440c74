/** The chart of docs/perf.svg: for each workload and shape, how fast Quoin is beside etcd, and what CPU it takes. */
import { speedFloors } from './floors.ts';
import { inOrder } from './report.ts';
import type { Row } from './results.ts';
import { type ShapeId, shapes, workloads } from './workloads.ts';

const width = 960;
const labelsEnd = 300;
const panels = { speed: { x: 312, width: 400 }, cpu: { x: 752, width: 160 } };
const top = 92;
const barHeight = 10;
const groupGap = 12;
// Longer bars are cut and say so.
const speedMax = 6;
const cpuMax = 2;

// Colours that stand out on white and on black; the text's colour follows the reader's theme.
const style = `
    text { font: 12px system-ui, sans-serif; fill: #24292f; }
    .title { font-size: 15px; font-weight: 600; }
    .small { font-size: 10px; }
    .ground { fill: #ffffff; }
    .grid { stroke: #8b949e; stroke-opacity: 0.35; }
    .even { stroke: #24292f; stroke-width: 1.5; }
    .floor { stroke: #cf222e; stroke-width: 2; }
    .one { fill: #8c6bb1; }
    .nodes { fill: #2f81f7; }
    .roles { fill: #d98200; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .ground { fill: #0d1117; }
      .even { stroke: #e6edf3; }
      .floor { stroke: #ff7b72; }
    }`;

const escaped = (text: string): string =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const text = (x: number, y: number, content: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escaped(content)}</text>`;
const line = (kind: string, x: number, from: number, to: number): string =>
  `<line class="${kind}" x1="${x.toFixed(1)}" y1="${from.toFixed(1)}" x2="${x.toFixed(1)}" y2="${to.toFixed(1)}"/>`;

interface Panel {
  readonly x: number;
  readonly width: number;
}

function bar(panel: Panel, y: number, value: number, max: number, shape: ShapeId): string {
  const cut = value > max;
  const length = (Math.min(value, max) / max) * panel.width;
  return (
    `<rect class="${shape}" x="${panel.x}" y="${y.toFixed(1)}" width="${length.toFixed(1)}" height="${barHeight - 1}"/>` +
    text(panel.x + length + 4, y + barHeight - 2, `${cut ? '… ' : ''}${value.toFixed(2)}`, ' class="small"')
  );
}

function axis(panel: Panel, title: string, max: number, step: number, bottom: number): string {
  const parts = [text(panel.x, top - 24, title)];
  for (let value = 0; value <= max; value += step) {
    const x = panel.x + (value / max) * panel.width;
    parts.push(line(value === 1 ? 'even' : 'grid', x, top - 4, bottom));
    parts.push(text(x, top - 8, `${value}×`, ' class="small" text-anchor="middle"'));
  }
  return parts.join('');
}

/** How many times faster: of throughput, or of the time that one operation takes. */
function speed(row: Row): number {
  const { judgedBy } = workloads.find(({ id }) => id === row.workload)!;
  return judgedBy === 'perSecond' ? row.ratios.perSecond : 1 / row.ratios.p50Ms;
}

/** An SVG document, its width fixed, its height as the rows need. */
export function chart(rows: readonly Row[]): string {
  const shown = inOrder(rows);
  const parts: string[] = [];
  let y = top + 4;
  for (const { id, title } of workloads) {
    const group = shown.filter((row) => row.workload === id);
    if (group.length === 0) continue;
    const height = group.length * barHeight;
    parts.push(text(labelsEnd, y + height / 2 + 4, title, ' text-anchor="end"'));
    group.forEach((row, i) => {
      parts.push(bar(panels.speed, y + i * barHeight, speed(row), speedMax, row.shape));
      parts.push(bar(panels.cpu, y + i * barHeight, row.ratios.cpuMicros, cpuMax, row.shape));
    });
    const floor = speedFloors[id];
    if (floor !== undefined)
      parts.push(
        line('floor', panels.speed.x + (floor / speedMax) * panels.speed.width, y - 2, y + height + 1),
      );
    y += height + groupGap;
  }
  const height = y + 8;
  const legend = (Object.keys(shapes) as ShapeId[]).map((shape, i) => {
    const x = panels.speed.x + i * 90;
    return `<rect class="${shape}" x="${x}" y="34" width="12" height="12"/>${text(x + 17, 44, shapes[shape].title)}`;
  });
  legend.push(line('floor', panels.speed.x + 276, 33, 47), text(panels.speed.x + 284, 44, 'floor'));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    '<title>Quoin beside etcd</title>',
    `<style>${style}\n  </style>`,
    `<rect class="ground" width="${width}" height="${height}"/>`,
    text(16, 26, 'Quoin beside etcd on the same machine, in turns (etcd = 1)', ' class="title"'),
    ...legend,
    axis(panels.speed, 'speed, × etcd (longer is better)', speedMax, 1, height - 8),
    axis(panels.cpu, 'server CPU per operation, × etcd', cpuMax, 1, height - 8),
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}
