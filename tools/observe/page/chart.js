/** A chart of lines over the last five minutes, as SVG. */

/** As much as there is, between these. */
const windowMsMin = 60_000;
const windowMsMax = 300_000;
const width = 520;
const height = 150;
const left = 46;
const bottom = 18;
const top = 6;

export const colours = Array.from({ length: 7 }, (_, i) => `var(--c${i})`);

const svgNs = 'http://www.w3.org/2000/svg';

function element(name, attributes, parent) {
  const made = document.createElementNS(svgNs, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

const prefixes = ['', 'k', 'M', 'G', 'T'];

/** 12,345 → 12.3k */
export function short(value) {
  if (value === undefined || value === null) return '–';
  let scaled = Math.abs(value);
  let at = 0;
  while (scaled >= 999.5 && at < prefixes.length - 1) {
    scaled /= 1000;
    at++;
  }
  const digits = scaled >= 99.5 || scaled === Math.round(scaled) ? 0 : scaled >= 9.95 ? 1 : 2;
  return `${value < 0 ? '-' : ''}${scaled.toFixed(digits)}${prefixes[at]}`;
}

export function bytes(value) {
  if (value === undefined || value === null) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let scaled = value;
  let at = 0;
  while (scaled >= 1023.5 && at < units.length - 1) {
    scaled /= 1024;
    at++;
  }
  return `${scaled.toFixed(scaled >= 99.5 || at === 0 ? 0 : 1)} ${units[at]}`;
}

/** Seconds, in the unit that fits. */
export function time(seconds) {
  if (seconds === undefined || seconds === null) return '–';
  if (seconds === 0) return '0';
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.01 ? 2 : seconds < 0.1 ? 1 : 0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

export const percent = (share) =>
  share === undefined || share === null ? '–' : `${Math.round(share * 100)} %`;

/** The next of 1, 2, 5 × 10ⁿ (for bytes 2ⁿ). */
function niceMax(value, binary) {
  if (value <= 0) return 1;
  if (binary) return 2 ** Math.ceil(Math.log2(value * 1.05));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value * 1.02) * power;
}

/**
 * `series(sample)` gives name → value; `steps`: values hold until the next one; `marks(samples)` gives vertical marks.
 */
export class Chart {
  constructor(
    parent,
    { title, unit, series, format = short, steps = false, marks, least = 0, binary = false },
  ) {
    Object.assign(this, { series, format, steps, marks, least, binary });
    this.names = new Map();
    this.cursorMs = undefined;
    this.windowMs = windowMsMin;
    const panel = document.createElement('div');
    panel.className = 'panel chart';
    const heading = document.createElement('h2');
    heading.append(title);
    const small = document.createElement('small');
    small.append(unit);
    heading.append(small);
    this.svg = document.createElementNS(svgNs, 'svg');
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.svg.setAttribute('preserveAspectRatio', 'none');
    this.svg.setAttribute('role', 'img');
    this.svg.setAttribute('aria-label', `${title}, ${unit}`);
    this.keys = document.createElement('div');
    this.keys.className = 'keys';
    panel.append(heading, this.svg, this.keys);
    parent.append(panel);
    // One unit of the drawing is one pixel, so that letters keep their shape.
    this.width = width;
    new ResizeObserver(() => {
      this.width = Math.max(240, this.svg.clientWidth);
      this.svg.setAttribute('viewBox', `0 0 ${this.width} ${height}`);
      if (this.samples !== undefined) this.draw(this.samples, this.nowMs);
    }).observe(this.svg);
    this.svg.addEventListener('pointermove', (event) => {
      const at = event.clientX - this.svg.getBoundingClientRect().left;
      this.cursorMs = this.nowMs - this.windowMs + ((at - left) / (this.width - left)) * this.windowMs;
      this.draw(this.samples, this.nowMs);
    });
    this.svg.addEventListener('pointerleave', () => {
      this.cursorMs = undefined;
      this.draw(this.samples, this.nowMs);
    });
  }

  x(atMs) {
    return left + ((atMs - (this.nowMs - this.windowMs)) / this.windowMs) * (this.width - left);
  }

  y(value) {
    return top + (1 - value / this.max) * (height - top - bottom);
  }

  colour(name) {
    if (!this.names.has(name)) this.names.set(name, colours[this.names.size % colours.length]);
    return this.names.get(name);
  }

  draw(samples, nowMs) {
    this.samples = samples ?? [];
    this.nowMs = nowMs;
    const heldMs = nowMs - (this.samples[0]?.atMs ?? nowMs);
    this.windowMs = Math.min(windowMsMax, Math.max(windowMsMin, heldMs));
    const seen = this.samples.filter((sample) => sample.atMs > nowMs - this.windowMs);
    const values = seen.map((sample) => this.series(sample));
    const largest = Math.max(
      this.least,
      ...values.flatMap((of) => Object.values(of).filter((v) => v != null)),
    );
    this.max = niceMax(largest, this.binary);
    this.svg.replaceChildren();
    this.axes();
    for (const mark of this.marks?.(seen) ?? []) this.mark(mark);
    for (const value of values) for (const name of Object.keys(value)) this.colour(name);
    for (const [name, colour] of this.names) this.line(seen, values, name, colour);
    this.legend(seen, values);
  }

  axes() {
    for (const share of [0, 0.5, 1]) {
      const y = this.y(this.max * share);
      element(
        'line',
        { class: share === 0 ? 'axis' : 'grid', x1: left, x2: this.width, y1: y, y2: y },
        this.svg,
      );
      const label = element('text', { x: left - 6, y: y + 4, 'text-anchor': 'end' }, this.svg);
      label.textContent = this.format(this.max * share);
    }
    for (const share of [0.8, 0.6, 0.4, 0.2]) {
      const seconds = Math.round((this.windowMs * share) / 1_000);
      const x = this.x(this.nowMs - seconds * 1_000);
      const label = element('text', { x, y: height - 4, 'text-anchor': 'middle' }, this.svg);
      label.textContent = seconds % 60 === 0 ? `−${seconds / 60} min` : `−${seconds} s`;
    }
    const now = element('text', { x: this.width, y: height - 4, 'text-anchor': 'end' }, this.svg);
    now.textContent = 'now';
  }

  mark({ atMs, text }) {
    const x = this.x(atMs);
    element('line', { class: 'cursor', x1: x, x2: x, y1: top, y2: height - bottom }, this.svg);
    const label = element('text', { x: x + 4, y: top + 10 }, this.svg);
    label.textContent = text;
  }

  line(seen, values, name, colour) {
    let path = '';
    let lastY;
    for (let i = 0; i < seen.length; i++) {
      const value = values[i][name];
      if (value === undefined || value === null) {
        lastY = undefined;
        continue;
      }
      const x = this.x(seen[i].atMs).toFixed(1);
      const y = this.y(value).toFixed(1);
      if (lastY === undefined) path += `M${x} ${y}`;
      else path += this.steps ? `H${x}V${y}` : `L${x} ${y}`;
      lastY = y;
    }
    if (path !== '') element('path', { class: 'line', d: path, stroke: colour }, this.svg);
  }

  legend(seen, values) {
    let at = values.length - 1;
    if (this.cursorMs !== undefined && seen.length > 0) {
      at = seen.reduce(
        (best, sample, i) =>
          Math.abs(sample.atMs - this.cursorMs) < Math.abs(seen[best].atMs - this.cursorMs) ? i : best,
        0,
      );
      const x = this.x(seen[at].atMs);
      element('line', { class: 'cursor', x1: x, x2: x, y1: top, y2: height - bottom }, this.svg);
    }
    this.keys.replaceChildren(
      ...[...this.names].map(([name, colour]) => {
        const key = document.createElement('span');
        const dot = document.createElement('i');
        dot.style.background = colour;
        const value = document.createElement('b');
        value.textContent = this.format(values[at]?.[name]);
        key.append(dot, name, value);
        return key;
      }),
    );
  }
}
