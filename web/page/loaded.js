// Loaded is what the API was asked for last: its value, or the problem, or both where it
// was known before. An answer that was overtaken by a later question is dropped.
export class Loaded {
  constructor(changed) {
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.value = undefined;
    this.problem = null;
    this.busy = false;
    this.turn = {};
  }

  async load(ask) {
    const turn = (this.turn = {});
    this.busy = true;
    this.changed();
    try {
      const value = await ask();
      if (turn !== this.turn) return;
      this.value = value;
      this.problem = null;
    } catch (problem) {
      if (turn !== this.turn) return;
      this.problem = problem;
    }
    this.busy = false;
    this.changed();
  }
}
