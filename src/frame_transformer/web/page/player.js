// Plays the tracks of one song on the same sample. Stretches of headerless 16-bit stereo are fetched as they are needed
// and scheduled on one audio clock, so that hours of sound need no more memory than seconds and nothing drifts.

const CHUNK_SECONDS = 4;
const AHEAD_SECONDS = 8;
const FRAME_BYTES = 4;
let current = null; // only one song plays at a time

export class Player {
  constructor(tracks, rate, changed) {
    this.tracks = tracks.map((track) => ({ ...track, muted: false, solo: false }));
    this.rate = rate;
    this.length = Math.max(...tracks.map((track) => track.samples)); // samples
    this.changed = changed;
    this.playing = false;
    this.place = 0; // samples, where playing begins
    this.run = 0;
    this.sources = new Set();
  }

  get position() {
    if (!this.playing || this.began === undefined) return this.place;
    const played = (this.context.currentTime - this.began) * this.rate;
    return Math.min(this.length, this.place + Math.max(0, played));
  }

  audible(track) {
    return this.tracks.some((other) => other.solo) ? track.solo : !track.muted;
  }

  mix() {
    for (const track of this.tracks) {
      track.gain?.gain.setTargetAtTime(this.audible(track) ? 1 : 0, this.context.currentTime, 0.01);
    }
    this.changed();
  }

  async play() {
    if (current !== this) current?.pause();
    current = this;
    if (!this.context) {
      // The song's own rate: otherwise every stretch would be resampled by itself and the seams would click.
      this.context = new AudioContext({ sampleRate: this.rate });
      for (const track of this.tracks) {
        track.gain = new GainNode(this.context, { gain: this.audible(track) ? 1 : 0 });
        track.gain.connect(this.context.destination);
      }
    }
    const run = ++this.run;
    if (this.place >= this.length) this.place = 0;
    this.playing = true;
    this.began = undefined;
    this.changed();
    try {
      await this.context.resume();
      await this.schedule(run);
    } finally {
      if (run === this.run) this.pause();
    }
  }

  async schedule(run) {
    for (let start = this.place; start < this.length; start += CHUNK_SECONDS * this.rate) {
      const buffers = await Promise.all(this.tracks.map((track) => this.fetch(track, start)));
      if (run !== this.run) return;
      const now = this.context.currentTime;
      this.began ??= now + 0.05;
      let when = this.began + (start - this.place) / this.rate;
      if (when < now) { // the stretch came late: everything after it moves
        this.began += now + 0.05 - when;
        when = now + 0.05;
      }
      buffers.forEach((buffer, index) => buffer && this.start(buffer, this.tracks[index], when));
      while (when + CHUNK_SECONDS - this.context.currentTime > AHEAD_SECONDS && run === this.run) await pause(100);
    }
    while (run === this.run && this.position < this.length) await pause(50);
  }

  start(buffer, track, when) {
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(track.gain);
    source.onended = () => this.sources.delete(source);
    this.sources.add(source);
    source.start(when);
  }

  async fetch(track, start) {
    const end = Math.min(track.samples, start + CHUNK_SECONDS * this.rate);
    if (start >= end) return null;
    const range = `bytes=${start * FRAME_BYTES}-${end * FRAME_BYTES - 1}`;
    const answer = await fetch(track.sound, { headers: { Range: range } });
    if (!answer.ok) throw new Error("The sound is no longer on the server.");
    const view = new DataView(await answer.arrayBuffer());
    const buffer = new AudioBuffer({ length: end - start, numberOfChannels: 2, sampleRate: this.rate });
    for (const channel of [0, 1]) {
      const samples = buffer.getChannelData(channel);
      for (let i = 0; i < samples.length; i++) {
        samples[i] = view.getInt16(i * FRAME_BYTES + 2 * channel, true) / 32768;
      }
    }
    return buffer;
  }

  pause() {
    this.place = Math.round(this.position);
    this.playing = false;
    this.run++;
    for (const source of this.sources) source.stop();
    this.sources.clear();
    this.changed();
  }

  seek(place) {
    const playing = this.playing;
    if (playing) this.pause();
    this.place = Math.max(0, Math.min(this.length, Math.round(place)));
    this.changed();
    return playing ? this.play() : null;
  }

  close() {
    if (this.playing) this.pause();
    this.context?.close();
  }
}

function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}
