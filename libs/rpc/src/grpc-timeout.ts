function unitMs(letter: number): number {
  switch (letter) {
    case 0x48: // H
      return 3_600_000;
    case 0x4d: // M
      return 60_000;
    case 0x53: // S
      return 1_000;
    case 0x6d: // m
      return 1;
    case 0x75: // u
      return 1e-3;
    case 0x6e: // n
      return 1e-6;
    default:
      return Number.NaN;
  }
}
const timeoutDigitsMax = 8;

/** `100m` and its like as ms; undefined when absent, NaN when malformed. */
export function parseGrpcTimeoutMs(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const digits = value.length - 1;
  if (digits < 1 || digits > timeoutDigitsMax) return Number.NaN;
  let count = 0;
  for (let i = 0; i < digits; i++) {
    const digit = value.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return Number.NaN;
    count = count * 10 + digit;
  }
  return count * unitMs(value.charCodeAt(digits));
}
