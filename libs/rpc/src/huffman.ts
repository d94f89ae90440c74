/**
 * The Huffman code of HPACK (RFC 7541 §5.2, appendix B).
 *
 * The code is canonical: codes of one length are consecutive in order of the symbol. So the lengths below are the whole
 * table. Decoding takes four bits a step: a state is an inner node of the code tree, and since no code is shorter than
 * five bits, a step emits at most one symbol.
 */
import { latin1 } from '@quoin/base';

// Lengths in bits of the codes of symbols 0–255 and of EOS (256), as runs "length*count".
const lengthRuns =
  '13 23 28*7 24 30 28*2 30 28*8 30 28*9 6 10*2 12 13 6 8 11 10*2 8 11 8 6*3 5*3 6*7 7 8 15 6 12 10 13 6 7*22 8 7 8 13 19 13 14 6 15 5 6 5 6 5 6*3 5 7*2 6*3 5 6 7 6 5*2 6 7*5 15 11 14 13 28 20 22 20*2 22*3 23 22 23*5 24 23 24*2 22 23 24 23*4 21 22 23 22 23*2 24 22 21 20 22*2 23*2 21 23 22*2 24 21 22 23*2 21*2 22 21 23 22 23*2 20 22*3 23 22*2 23 26*2 20 19 22 23 22 25 26*3 27*2 26 24 25 19 21 26 27*2 26 27 24 21*2 26*2 28 27*3 20 24 20 21 22 21*2 23 22*2 25*2 24*2 26 23 26 27 26*2 27*5 28 27*5 26 30';

const symbolCount = 257;
const endOfString = 256;

function codeLengths(): number[] {
  const lengths: number[] = [];
  for (const run of lengthRuns.split(' ')) {
    const [length, count] = run.split('*');
    for (let i = 0; i < Number(count ?? 1); i++) lengths.push(Number(length));
  }
  return lengths;
}

function makeCodes(lengths: readonly number[]): number[] {
  const order = lengths.map((_, symbol) => symbol).sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  const codes = new Array<number>(symbolCount).fill(0);
  let code = 0;
  let previous = 0;
  for (const symbol of order) {
    code <<= lengths[symbol]! - previous;
    previous = lengths[symbol]!;
    codes[symbol] = code++;
  }
  return codes;
}

// Per state and nibble: next state in the low 16 bits, flags and the emitted symbol above.
const emits = 1 << 16;
const fails = 1 << 17;
const symbolShift = 18;

interface Tree {
  readonly zero: Int16Array;
  readonly one: Int16Array;
  readonly count: number;
}

/** Children ≥ 0 are inner nodes, others are leaves: −1 − symbol. */
function makeTree(codes: readonly number[], lengths: readonly number[]): Tree {
  const zero = new Int16Array(symbolCount);
  const one = new Int16Array(symbolCount);
  let count = 1;
  for (let symbol = 0; symbol < symbolCount; symbol++) {
    let node = 0;
    for (let bit = lengths[symbol]! - 1; bit >= 0; bit--) {
      const side = ((codes[symbol]! >>> bit) & 1) === 0 ? zero : one;
      if (bit === 0) side[node] = -1 - symbol;
      else {
        if (side[node] === 0) side[node] = count++;
        node = side[node]!;
      }
    }
  }
  return { zero, one, count };
}

function makeSteps(tree: Tree): Int32Array {
  const steps = new Int32Array(tree.count * 16);
  for (let state = 0; state < tree.count; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state;
      let step = 0;
      for (let bit = 3; bit >= 0; bit--) {
        const next = ((nibble >> bit) & 1) === 0 ? tree.zero[node]! : tree.one[node]!;
        if (next >= 0) node = next;
        else {
          const symbol = -1 - next;
          step |= symbol === endOfString ? fails : emits | (symbol << symbolShift);
          node = 0;
        }
      }
      steps[state * 16 + nibble] = step | node;
    }
  }
  return steps;
}

/** States at which a string may end: at most seven bits, all ones, after the last symbol. */
function makeEnds(tree: Tree): Uint8Array {
  const ends = new Uint8Array(tree.count);
  let node = 0;
  for (let bits = 0; bits <= 7 && node >= 0; bits++) {
    ends[node] = 1;
    node = tree.one[node]!;
  }
  return ends;
}

const lengths = codeLengths();
const tree = makeTree(makeCodes(lengths), lengths);
const steps = makeSteps(tree);
const ends = makeEnds(tree);

// What one string decodes to, for as long as it takes to make text of it. A code has five bits at least.
let decoded = new Uint8Array(256);

/** The decoded text (one character per byte), or undefined when the bytes are not a valid encoding. */
export function decodeHuffman(bytes: Uint8Array, from: number, to: number): string | undefined {
  if ((to - from) * 8 > decoded.length * 5) decoded = new Uint8Array((to - from) * 2);
  const out = decoded;
  let length = 0;
  let state = 0;
  for (let i = from; i < to; i++) {
    const byte = bytes[i]!;
    const high = steps[state * 16 + (byte >> 4)]!;
    if ((high & (emits | fails)) !== 0) {
      if ((high & fails) !== 0) return undefined;
      out[length++] = high >>> symbolShift;
    }
    const low = steps[(high & 0xffff) * 16 + (byte & 15)]!;
    if ((low & (emits | fails)) !== 0) {
      if ((low & fails) !== 0) return undefined;
      out[length++] = low >>> symbolShift;
    }
    state = low & 0xffff;
  }
  return ends[state] === 1 ? latin1(out, 0, length) : undefined;
}
