// Numbers with their units, in the reader's own language.

const PLAIN = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const STEPS = ["B", "kB", "MB", "GB", "TB"];

/** Return a number of bytes, or with `per` of bytes a second, with three digits and a prefix (powers of 1000). */
export function inBytes(bytes, per = "") {
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= 1000 && step < STEPS.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${PLAIN.format(value)} ${STEPS[step]}${per}`;
}

/** Return a value with its unit: `B` and `B/s` get a prefix; a value without a unit is just a number. */
export function withUnit(value, unit) {
  if (unit === "B" || unit === "B/s") {
    return inBytes(value, unit.slice(1));
  }
  return unit ? `${PLAIN.format(value)} ${unit}` : PLAIN.format(value);
}

/** Return a duration in seconds in words. */
export function inTime(seconds) {
  if (seconds < 60) {
    return `${PLAIN.format(seconds)} s`;
  }
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
