import { type DecodedField, FieldKind } from './header-field.ts';
import type { HeaderList } from './header-list.ts';

// Fields that speak about an HTTP/1.1 connection and have no place here (RFC 9113 §8.2.2).
const connectionFields = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
const requestPseudoFields: ReadonlyMap<string, FieldKind> = new Map([
  [':method', FieldKind.method],
  [':scheme', FieldKind.scheme],
  [':path', FieldKind.path],
  [':authority', FieldKind.authority],
]);
const requiredFields = (1 << FieldKind.method) | (1 << FieldKind.scheme) | (1 << FieldKind.path);

// Regular fields that are checked by their values, or that decide how a call is served.
const boundFields = new Set(['te', 'content-type', 'grpc-encoding']);

/** The text of what makes a request malformed (RFC 9113 §8.1.1, §8.2, §8.3), or its announced length (-1: none). */
export function verdictOf({ fields, shape }: HeaderList): string | number {
  shape.verdict ??= checkRequest(fields);
  return shape.verdict;
}

function checkRequest(headers: readonly DecodedField[]): string | number {
  let seen = 0;
  let regular = false;
  let contentLength = -1;
  for (let i = 0; i < headers.length; i++) {
    const field = headers[i]!;
    if (field.kind === FieldKind.unknown) field.kind = kindOf(field);
    const { kind } = field;
    if (kind === FieldKind.regular || kind === FieldKind.free) regular = true;
    else if (kind <= FieldKind.authority) {
      if (regular) return `${field.name} after regular fields`;
      if ((seen & (1 << kind)) !== 0) return `${field.name} twice`;
      seen |= 1 << kind;
    } else if (kind === FieldKind.bad) return fieldProblem(field) ?? 'a bad field';
    else {
      regular = true;
      if (contentLength >= 0 && contentLength !== Number(field.value)) return 'two values of content-length';
      contentLength = Number(field.value);
    }
  }
  if ((seen & requiredFields) === requiredFields) return contentLength;
  for (const [name, kind] of requestPseudoFields) if ((seen & (1 << kind)) === 0) return `no ${name}`;
  return contentLength;
}

function kindOf(field: DecodedField): FieldKind {
  if (fieldProblem(field) !== undefined) return FieldKind.bad;
  if (field.name === 'content-length') return FieldKind.contentLength;
  if (boundFields.has(field.name)) return FieldKind.regular;
  return requestPseudoFields.get(field.name) ?? FieldKind.free;
}

/** What is wrong with a field wherever it stands. */
function fieldProblem({ name, value }: DecodedField): string | undefined {
  if (name.startsWith(':')) {
    if (!requestPseudoFields.has(name)) return `unknown pseudo field ${name}`;
    return name === ':path' && value === '' ? 'empty :path' : undefined;
  }
  if (!isFieldName(name)) return `bad field name ${name}`;
  if (connectionFields.has(name)) return `connection-specific field ${name}`;
  if (name === 'te' && value !== 'trailers') return `te is ${value}`;
  if (name === 'content-length' && !/^\d{1,15}$/.test(value)) return `content-length is ${value}`;
  return undefined;
}

/** Visible ASCII without upper case: enough to refuse what §8.2.1 forbids. */
function isFieldName(name: string): boolean {
  if (name === '') return false;
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    if (c <= 0x20 || c >= 0x7f || (c >= 0x41 && c <= 0x5a) || c === 0x3a) return false;
  }
  return true;
}
