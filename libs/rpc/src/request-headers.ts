import type { HeaderField } from './hpack.ts';

// Fields that speak about an HTTP/1.1 connection and have no place here (RFC 9113 §8.2.2).
const connectionFields = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
const requestPseudoFields = new Set([':method', ':scheme', ':path', ':authority']);

/** The text of what makes a request malformed (RFC 9113 §8.1.1, §8.2, §8.3), or its announced length (-1: none). */
export function checkRequest(headers: readonly HeaderField[]): string | { readonly contentLength: number } {
  const seen = new Set<string>();
  let regular = false;
  let contentLength = -1;
  for (const { name, value } of headers) {
    if (name.startsWith(':')) {
      if (regular) return `${name} after regular fields`;
      if (!requestPseudoFields.has(name)) return `unknown pseudo field ${name}`;
      if (seen.has(name)) return `${name} twice`;
      seen.add(name);
      if (name === ':path' && value === '') return 'empty :path';
      continue;
    }
    regular = true;
    if (!isFieldName(name)) return `bad field name ${name}`;
    if (connectionFields.has(name)) return `connection-specific field ${name}`;
    if (name === 'te' && value !== 'trailers') return `te is ${value}`;
    if (name === 'content-length') {
      if (!/^\d{1,15}$/.test(value)) return `content-length is ${value}`;
      if (contentLength >= 0 && contentLength !== Number(value)) return 'two values of content-length';
      contentLength = Number(value);
    }
  }
  for (const name of [':method', ':scheme', ':path']) if (!seen.has(name)) return `no ${name}`;
  return { contentLength };
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
