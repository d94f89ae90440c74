/** The load generator where Go is absent: the same flags and the same JSON line as loadgen/main.go, on our own client. */
import { Client } from '@quoin/client';
