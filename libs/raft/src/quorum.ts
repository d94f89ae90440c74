/** Has a quorum got there? Pure arithmetic, joint consensus included: what holds must hold in both majorities (thesis §4.3). */

export type VoteResult = 'won' | 'lost' | 'pending';

/**
 * The largest index that a majority of the first `count` values has reached. Sorts them in place: groups are small, and
 * this runs at every acknowledgement. No voters at all agree to everything (`Infinity`), so that the empty half
 * of a configuration which is not joint never holds the other half back.
 */
export function majorityIndex(values: number[], count: number = values.length): number {
  if (count === 0) return Number.POSITIVE_INFINITY;
  for (let i = 1; i < count; i++) {
    const value = values[i]!;
    let j = i - 1;
    for (; j >= 0 && values[j]! > value; j--) values[j + 1] = values[j]!;
    values[j + 1] = value;
  }
  // Ascending: the values from position (count-1)>>1 to the end are a majority, and this is the least of them.
  return values[(count - 1) >> 1]!;
}

/** What `yes` and `no` votes out of `total` decide. No voters at all say yes. */
export function majorityVote(yes: number, no: number, total: number): VoteResult {
  if (total === 0) return 'won';
  const quorum = (total >> 1) + 1;
  if (yes >= quorum) return 'won';
  return total - no >= quorum ? 'pending' : 'lost';
}

/** Won only where both are won, lost as soon as one is lost. */
export function jointVote(incoming: VoteResult, outgoing: VoteResult): VoteResult {
  if (incoming === outgoing) return incoming;
  return incoming === 'lost' || outgoing === 'lost' ? 'lost' : 'pending';
}
