/** Messages in the JSON that Go makes of its generated structs: proto names, zero values left out, numbers as numbers. */
import type { DescField, DescMessage, DescOneof, Message } from '@bufbuild/protobuf';
import { goJsonString } from './go-format.ts';

/** JSON text of a message, members in order of declaration. */
export function messageJson(desc: DescMessage, message: Message): string {
  return `{${messageFields(desc, message).join(',')}}`;
}

/** `"name":value` of each field that is not zero. */
export function messageFields(desc: DescMessage, message: Message): string[] {
  const values = message as unknown as Record<string, unknown>;
  const out: string[] = [];
  for (const member of desc.members) {
    if (member.kind === 'oneof') out.push(...oneofJson(member, values[member.localName]));
    else if (!isZero(values[member.localName]))
      out.push(`"${member.name}":${fieldJson(member, values[member.localName])}`);
  }
  return out;
}

// Go shows a oneof as an interface-typed member that holds a struct with the one field.
function oneofJson(oneof: DescOneof, value: unknown): string[] {
  const chosen = value as { case?: string; value?: unknown } | undefined;
  const field = oneof.fields.find((each) => each.localName === chosen?.case);
  if (field === undefined) return [];
  return [`"${pascal(oneof.name)}":{"${pascal(field.name)}":${fieldJson(field, chosen!.value)}}`];
}

function pascal(name: string): string {
  return name
    .split('_')
    .map((part) => part.slice(0, 1).toUpperCase() + part.slice(1))
    .join('');
}

function isZero(value: unknown): boolean {
  if (value === undefined || value === 0 || value === 0n || value === false || value === '') return true;
  return (Array.isArray(value) || value instanceof Uint8Array) && value.length === 0;
}

function fieldJson(field: DescField, value: unknown): string {
  if (field.fieldKind === 'list')
    return `[${(value as unknown[]).map((item) => itemJson(field.message, item)).join(',')}]`;
  return itemJson(field.message, value);
}

function itemJson(desc: DescMessage | undefined, value: unknown): string {
  if (desc !== undefined) return messageJson(desc, value as Message);
  if (value instanceof Uint8Array) return `"${Buffer.from(value).toString('base64')}"`;
  if (typeof value === 'string') return goJsonString(value);
  return String(value);
}
