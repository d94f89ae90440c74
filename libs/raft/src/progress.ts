/** See DESIGN.md: how the leader feeds one peer. */
export type ProgressState = 'probe' | 'replicate' | 'snapshot';
