/** What an expression of PromQL reads: enough of its grammar to find metrics, their selectors and grouping labels. */

export interface MetricUse {
  readonly name: string;
  /** Labels that its selector names. */
  readonly labels: readonly string[];
}

export interface ExpressionUse {
  readonly metrics: readonly MetricUse[];
  /** Of `by`, `without`, `on`, `ignoring`. */
  readonly grouping: readonly string[];
}

const keywords = new Set(
  'by without on ignoring group_left group_right and or unless bool offset inf nan'.split(' '),
);

/** @throws Error when parentheses do not match or a selector cannot be read */
export function readExpression(text: string): ExpressionUse {
  const metrics: MetricUse[] = [];
  const grouping: string[] = [];
  const token =
    /\s*(?:(#[^\n]*)|("(?:[^"\\]|\\.)*")|([a-zA-Z_:][a-zA-Z0-9_:]*)|(\d[\w.]*)|(\[[^\]]*\])|(\S))/y;
  let depth = 0;
  let word = '';
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const [, , , name, , , sign] = match;
    const next = text.slice(token.lastIndex).trimStart()[0];
    if (name !== undefined) {
      if (keywords.has(name.toLowerCase())) {
        word = name.toLowerCase();
        if (next !== '(' || !/^(by|without|on|ignoring|group_left|group_right)$/.test(word)) continue;
        const end = text.indexOf(')', token.lastIndex);
        const inside = text.slice(text.indexOf('(', token.lastIndex) + 1, end);
        grouping.push(
          ...inside
            .split(',')
            .map((label) => label.trim())
            .filter((label) => label !== ''),
        );
        token.lastIndex = end + 1;
        continue;
      }
      if (next === '(' || /^\s*(by|without)\b/.test(text.slice(token.lastIndex))) continue;
      metrics.push({ name, labels: next === '{' ? readSelector(text, token) : [] });
    } else if (sign === '(') depth++;
    else if (sign === ')' && --depth < 0) throw new Error(`a ) too many in ${text}`);
  }
  if (depth !== 0) throw new Error(`a ( too many in ${text}`);
  return { metrics, grouping };
}

function readSelector(text: string, token: RegExp): string[] {
  const labels: string[] = [];
  const matcher = /\s*([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"\s*(,|\})/y;
  matcher.lastIndex = text.indexOf('{', token.lastIndex) + 1;
  for (;;) {
    const match = matcher.exec(text);
    if (match === null) throw new Error(`cannot read a selector of ${text}`);
    labels.push(match[1]!);
    if (match[2] === '}') break;
  }
  token.lastIndex = matcher.lastIndex;
  return labels;
}
