import { ConnectionError } from './connection-error.ts';
import { defaultFrameBytesMax, defaultWindowBytes, ErrorCode, Setting, windowBytesMax } from './frames.ts';
import { headerTableBytes } from './hpack.ts';

const settingBytes = 6;
const frameBytesLimit = 0xff_ffff;

/** What the client has told of itself (RFC 9113 §6.5.2). What binds only the client, or is unknown, is passed over. */
export class PeerSettings {
  initialWindowBytes: number = defaultWindowBytes;
  frameBytesMax: number = defaultFrameBytesMax;
  headerTableBytes: number = headerTableBytes;

  /** The body of a SETTINGS frame. @throws ConnectionError */
  read(data: Uint8Array, from: number, to: number): void {
    if ((to - from) % settingBytes !== 0)
      throw new ConnectionError(ErrorCode.frameSizeError, 'SETTINGS of odd length');
    for (let at = from; at < to; at += settingBytes) {
      const value =
        ((data[at + 2]! << 24) | (data[at + 3]! << 16) | (data[at + 4]! << 8) | data[at + 5]!) >>> 0;
      this.take((data[at]! << 8) | data[at + 1]!, value);
    }
  }

  private take(setting: number, value: number): void {
    switch (setting) {
      case Setting.headerTableSize:
        this.headerTableBytes = value;
        return;
      case Setting.enablePush:
        if (value > 1) throw new ConnectionError(ErrorCode.protocolError, `ENABLE_PUSH is ${value}`);
        return;
      case Setting.initialWindowSize:
        if (value > windowBytesMax)
          throw new ConnectionError(ErrorCode.flowControlError, `INITIAL_WINDOW_SIZE is ${value}`);
        this.initialWindowBytes = value;
        return;
      case Setting.maxFrameSize:
        if (value < defaultFrameBytesMax || value > frameBytesLimit)
          throw new ConnectionError(ErrorCode.protocolError, `MAX_FRAME_SIZE is ${value}`);
        this.frameBytesMax = value;
    }
  }
}
