import { simulateShare } from './seed-share.ts';

simulateShare(0, 2);
