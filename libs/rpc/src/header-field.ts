export interface HeaderField {
  readonly name: string;
  readonly value: string;
}

/** What a field is to a request (RFC 9113 §8.2, §8.3); computed when first asked. */
export const FieldKind = {
  unknown: 0,
  method: 1,
  scheme: 2,
  path: 3,
  authority: 4,
  regular: 5,
  contentLength: 6,
  bad: 7,
  /** A regular field that any value may stand in, and by which no request is judged or led. */
  free: 8,
} as const;
export type FieldKind = (typeof FieldKind)[keyof typeof FieldKind];

const overheadBytes = 32;

/** Its size in a table or list (RFC 7541 §4.1). */
export function fieldBytes(name: string, value: string): number {
  return name.length + value.length + overheadBytes;
}

// Names that are looked for in every request: one string for each, so that comparing them is comparing pointers.
const knownNames = new Map(
  (
    ':authority :method :path :scheme content-type user-agent te grpc-timeout grpc-encoding grpc-accept-encoding ' +
    'client-api-version hasleader token authorization traceparent tracestate baggage grpc-trace-bin'
  )
    .split(' ')
    .map((name) => [name, name]),
);

/** One string for each name that is asked for often. */
export function knownName(name: string): string {
  return knownNames.get(name) ?? name;
}

/** A field as the decoder has it. The table hands out the same one again and again, so what was found out about it stays. */
export class DecodedField implements HeaderField {
  readonly name: string;
  readonly value: string;
  /** `fieldBytes`. */
  readonly bytes: number;
  kind: FieldKind;

  /** `kind`: when the name alone says it. */
  constructor(name: string, value: string, kind: FieldKind = FieldKind.unknown) {
    this.name = name;
    this.value = value;
    this.bytes = fieldBytes(name, value);
    this.kind = kind;
  }
}
