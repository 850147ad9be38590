/** The server's clock, from the Date of its answers: the clock of this device may be wrong. */

export class Clock {
  #least = -Infinity;
  #most = Infinity;

  /** Learns from an answer. `asked` and `answered` are performance.now(); Date has whole seconds, cut off. */
  learn(date, asked, answered) {
    const second = Date.parse(date ?? "");
    if (Number.isNaN(second)) return;
    const least = second - answered;
    const most = second + 1000 - asked;
    this.#least = Math.max(this.#least, least);
    this.#most = Math.min(this.#most, most);
    if (this.#least > this.#most) [this.#least, this.#most] = [least, most]; // a clock was set, or this device slept
  }

  /** Milliseconds since 1970, as Date.now() has them. */
  now() {
    if (this.#most === Infinity) return Date.now();
    return performance.now() + (this.#least + this.#most) / 2;
  }
}
