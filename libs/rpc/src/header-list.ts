import { type DecodedField, FieldKind } from './header-field.ts';

/** Names whose positions are remembered; whoever asks for more has them looked for. */
const namesMax = 8;

/** Where the first field of that name is; -1: nowhere. */
export function positionOf(fields: readonly DecodedField[], name: string): number {
  for (let i = 0; i < fields.length; i++) if (fields[i]!.name === name) return i;
  return -1;
}

/**
 * What lists of headers have in common that differ at most in values of free fields: deadlines, trace contexts, and the like.
 * What was found out of one of them is true of all.
 */
export class HeaderShape {
  /** Of `RequestCheck`; undefined until asked. */
  verdict: string | number | undefined = undefined;
  private readonly fields: readonly DecodedField[];
  private readonly names: string[] = [];
  private readonly positions: number[] = [];

  /** `fields`: of any of its lists. */
  constructor(fields: readonly DecodedField[]) {
    this.fields = fields;
  }

  includes(fields: readonly DecodedField[]): boolean {
    const mine = this.fields;
    if (mine.length !== fields.length) return false;
    for (let i = 0; i < fields.length; i++) {
      const a = mine[i]!;
      const b = fields[i]!;
      if (a === b) continue;
      if (a.kind !== FieldKind.free || b.kind !== FieldKind.free || a.name !== b.name) return false;
    }
    return true;
  }

  /** `positionOf` in any of its lists, for names that are asked for again and again. */
  position(name: string): number {
    const { names } = this;
    for (let i = 0; i < names.length; i++) if (names[i] === name) return this.positions[i]!;
    const at = positionOf(this.fields, name);
    if (names.length < namesMax) {
      names.push(name);
      this.positions.push(at);
    }
    return at;
  }

  /** A field of it with that name: with that very value if there is one, else a free one. */
  like(name: string, value: string): DecodedField | undefined {
    let free: DecodedField | undefined;
    for (let i = 0; i < this.fields.length; i++) {
      const field = this.fields[i]!;
      if (field.name !== name) continue;
      if (field.value === value) return field;
      if (field.kind === FieldKind.free) free = field;
    }
    return free;
  }
}

/** The fields of one header block, in their order. */
export class HeaderList {
  readonly fields: readonly DecodedField[];
  readonly shape: HeaderShape;

  constructor(fields: readonly DecodedField[], shape: HeaderShape) {
    this.fields = fields;
    this.shape = shape;
  }

  /** The value of the first field of that name. Fast for names that are asked of every list. */
  find(name: string): string | undefined {
    const at = this.shape.position(name);
    return at < 0 ? undefined : this.fields[at]!.value;
  }
}
