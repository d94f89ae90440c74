/** One trace: a row for each span, a bar where and as long as it was. */
import { colours, time } from './chart.js';

const ticks = 5;

export class Waterfall {
  constructor(root) {
    this.rows = root.querySelector('#rows');
    this.legend = root.querySelector('#legend');
    this.name = root.querySelector('#trace-name');
    this.facts = root.querySelector('#trace-facts');
    this.detail = root.querySelector('#detail');
  }

  show(summary, spans) {
    const from = Math.min(...spans.map((span) => span.startUs));
    const to = Math.max(...spans.map((span) => span.startUs + span.durationUs));
    const total = Math.max(1, to - from);
    const who = [...new Set(spans.map((span) => span.who))];
    const colourOf = (name) => colours[who.indexOf(name) % colours.length];
    this.name.textContent = summary.name;
    this.facts.textContent = `${time(summary.durationUs / 1e6)} · ${spans.length} spans · ${who.length} processes · ${summary.id}`;
    this.legend.replaceChildren(
      ...who.map((name) => {
        const key = document.createElement('span');
        const dot = document.createElement('i');
        dot.style.background = colourOf(name);
        key.append(dot, name);
        return key;
      }),
    );
    const place = (us) => `${((us - from) / total) * 100}%`;
    this.rows.replaceChildren(
      this.scale(from, total),
      ...spans.map((span) => this.row(span, place, total, colourOf)),
    );
  }

  scale(from, total) {
    const row = document.createElement('div');
    row.className = 'span ticks';
    const bar = document.createElement('div');
    bar.className = 'bar';
    for (let i = 0; i <= ticks; i++) {
      const tick = document.createElement('span');
      tick.style.left = `${(i / ticks) * 100}%`;
      tick.textContent = i === 0 ? '0' : time((from + (total * i) / ticks) / 1e6);
      bar.append(tick);
    }
    row.append(document.createElement('div'), bar);
    return row;
  }

  row(span, place, total, colourOf) {
    const row = document.createElement('div');
    row.className = span.problem === '' ? 'span' : 'span problem';
    row.dataset.span = span.name;
    const name = document.createElement('div');
    name.className = 'name';
    name.style.paddingLeft = `${span.depth * 14}px`;
    const by = document.createElement('em');
    by.textContent = span.who;
    name.append(span.name, by);
    const bar = document.createElement('div');
    bar.className = 'bar';
    const box = document.createElement('i');
    box.style.left = place(span.startUs);
    box.style.width = `${(span.durationUs / total) * 100}%`;
    box.style.background = colourOf(span.who);
    const label = document.createElement('u');
    label.textContent = time(span.durationUs / 1e6);
    // Beside its bar, on the side where there is room.
    const end = (parseFloat(box.style.left) || 0) + (span.durationUs / total) * 100;
    if (end < 85) label.style.left = `${end}%`;
    else label.style.right = `${100 - parseFloat(box.style.left)}%`;
    bar.append(box, label);
    row.append(name, bar);
    row.addEventListener('pointerenter', () => this.describe(span));
    return row;
  }

  describe(span) {
    const facts = Object.entries(span.attributes).map(([key, value]) => `${key} = ${value}`);
    const name = document.createElement('b');
    name.textContent = span.name;
    this.detail.replaceChildren(
      name,
      ` at ${span.who}: from ${time(Math.max(0, span.startUs) / 1e6)}, for ${time(span.durationUs / 1e6)}`,
      span.problem === '' ? '' : ` · ${span.problem}`,
      facts.length === 0 ? '' : ` · ${facts.join(', ')}`,
    );
  }
}
