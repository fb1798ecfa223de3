/** Codes the client itself gives, with the meaning they have in docs/errors.md. */
export const LIMIT_EXCEEDED = 106;
export const NOT_AVAILABLE = 108;
export const TIMEOUT = 114;

/** A command that was not carried out, or a connection that is over; `code` as in docs/errors.md. */
export class DuplexError extends Error {
  override readonly name = 'DuplexError';

  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}
