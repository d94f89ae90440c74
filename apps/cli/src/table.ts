/** Boxed tables: upper-case headings centred, cells to the right. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, i) => Math.max(heading.length, ...rows.map((row) => row[i]!.length)));
  const line = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+`;
  const centred = (text: string, width: number): string => {
    const left = Math.floor((width - text.length) / 2);
    return ' '.repeat(left) + text + ' '.repeat(width - text.length - left);
  };
  const out = [
    line,
    `|${headings.map((heading, i) => ` ${centred(heading, widths[i]!)} `).join('|')}|`,
    line,
  ];
  for (const row of rows) out.push(`|${row.map((cell, i) => ` ${cell.padStart(widths[i]!)} `).join('|')}|`);
  if (rows.length > 0) out.push(line);
  return out.join('\n');
}
