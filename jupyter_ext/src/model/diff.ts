/** A line of two texts side by side; null where one of them has no such line. */
export interface Pair {
  left: string | null;
  right: string | null;
  same: boolean;
}

/** Lines after which two texts are not lined up: the table behind it grows with their product. */
const MOST = 1000;

/** Two texts side by side, common lines beside each other. */
export function sideBySide(left: string, right: string): Pair[] {
  const [a, b] = [left.split('\n').slice(0, MOST), right.split('\n').slice(0, MOST)];
  const longest = table(a, b);
  const pairs: Pair[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      pairs.push({ left: a[i++], right: b[j++], same: true });
    } else if (j >= b.length || (i < a.length && longest[i + 1][j] >= longest[i][j + 1])) {
      pairs.push({ left: a[i++], right: null, same: false });
    } else {
      pairs.push({ left: null, right: b[j++], same: false });
    }
  }
  return pairs;
}

/** Which of some texts is most like another one; -1 where none shares a line with it. */
export function mostLike(text: string, others: readonly string[]): number {
  const lines = text.split('\n').filter(line => line.trim());
  let [best, most] = [-1, 0];
  others.forEach((other, index) => {
    const there = new Set(other.split('\n'));
    const shared = lines.filter(line => there.has(line)).length;
    if (shared > most) {
      [best, most] = [index, shared];
    }
  });
  return best;
}

/** At [i][j]: how many lines a[i:] and b[j:] have in common, in order. */
function table(a: string[], b: string[]): Uint16Array[] {
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i][j] =
        a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  return longest;
}
