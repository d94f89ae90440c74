const printable = /^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u;

/** unicode.IsPrint: letters, marks, numbers, punctuation, symbols and the ASCII space. */
export function isPrintable(code: number, char: string): boolean {
  if (code < 0x7f) return code >= 0x20;
  return printable.test(char);
}
