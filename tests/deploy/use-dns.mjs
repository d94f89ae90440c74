/** Preloaded into a process (`--import`): names are asked for at TEST_DNS in place of the machine's servers. */
import { setServers } from 'node:dns';

setServers([process.env.TEST_DNS]);
