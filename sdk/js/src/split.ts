/** Cuts text that comes in pieces into lines, which end with CR, LF or both. What has no end yet waits. */
export function lines(take: (line: string) => void): (piece: string) => void {
  let rest = '';
  return (piece) => {
    // A CR at the end may be half of a CRLF, so it is no end yet.
    const all = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = all.pop()!;
    all.forEach(take);
  };
}

/** Takes the data of events out of the lines of an event stream (HTML, 9.2.6). */
export function events(take: (data: string) => void): (line: string) => void {
  let data: string[] = [];
  return (line) => {
    const field = /^data(?:: ?(.*))?$/s.exec(line);
    if (field) data.push(field[1] ?? '');
    if (line || !data.length) return;
    take(data.join('\n'));
    data = [];
  };
}
