import { simulateShare } from './seed-share.ts';

simulateShare(1, 2);
