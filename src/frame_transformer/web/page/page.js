import { Player } from "./player.js";

const $ = (selector, within = document) => within.querySelector(selector);
const QUEUE = "engine/gradio_api/queue";
const ALIVE_SECONDS = 60;
const songs = [];
let settings;
let visit;
let working = false;
const weights = new Map(); // of each model in a mean: its field

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

function notice(text) {
  $("#notice").textContent = text;
  $("#notice").hidden = !text;
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error || body.detail || `The server answered ${answer.status}.`);
  }
  return answer.status === 204 ? null : answer.json();
}

// One song of the page: new, uploading, ready, waiting, running, done or failed.
class Song {
  constructor(file) {
    this.file = file;
    this.state = "new";
    this.element = $("#song").content.cloneNode(true).firstElementChild;
    $("h2", this.element).textContent = file.name;
    $(".cancel", this.element).onclick = () => this.cancel();
    $(".remove", this.element).onclick = () => this.remove();
    $(".again", this.element).onclick = () => {
      this.show("ready", "Press Separate to begin.");
      start([this]);
    };
    $("#songs").append(this.element);
  }

  get address() {
    return `visits/${visit}/songs/${this.id}`;
  }

  show(state, text = "", share = null) {
    this.state = state;
    const busy = ["uploading", "waiting", "running"].includes(state);
    const bar = $("progress", this.element);
    const line = $(".state", this.element);
    line.textContent = text;
    line.classList.toggle("bad", state === "failed");
    bar.hidden = !busy;
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    $(".cancel", this.element).hidden = !["waiting", "running"].includes(state);
    $(".again", this.element).hidden = !(this.id && ["done", "failed"].includes(state));
    $(".again", this.element).textContent = state === "done" ? "Separate again" : "Try again";
    this.element.dataset.state = state;
    refresh();
  }

  upload() {
    if (this.file.size > settings.max_megabytes * 1e6) {
      this.show("failed", `This file is larger than this page takes (${settings.max_megabytes} MB).`);
      return Promise.resolve();
    }
    this.show("uploading", "Uploading …", 0);
    return new Promise((finished) => {
      // fetch tells nothing of an upload's progress.
      const request = (this.request = new XMLHttpRequest());
      request.open("POST", `visits/${visit}/songs?name=${encodeURIComponent(this.file.name)}`);
      request.responseType = "json";
      request.upload.onprogress = (event) => {
        this.show("uploading", "Uploading …", event.loaded / Math.max(1, event.total));
      };
      request.onloadend = () => {
        this.request = null;
        if (request.status === 200) {
          this.id = request.response.song;
          const seconds = request.response.seconds;
          $(".length", this.element).textContent = seconds === null ? "" : clock(seconds);
          this.show("ready");
        } else if (this.state !== "removed") {
          this.show("failed", request.response?.error || "The upload was interrupted.");
        }
        finished();
      };
      request.send(this.file);
    });
  }

  async separate(choice) {
    this.player?.close();
    $(".result", this.element).hidden = true;
    this.show("waiting", "Waiting …");
    try {
      await ask(`${this.address}/renew`, { method: "POST" });
      const result = await this.queue([
        visit, this.id, choice.models, choice.ensemble, choice.stems, choice.format,
        choice.overlap, choice.tta, choice.smoothing, choice.weights,
      ]);
      if (this.state === "removed") return;
      if (result === null || result.cancelled) {
        this.show("ready", "Cancelled.");
        return;
      }
      const notes = result.warnings.map((text) => `Note: ${text}.`);
      this.show("done", [`Separated in ${result.elapsed.toFixed(1)} s.`, ...notes].join(" "));
      this.present(result);
    } catch (error) {
      if (this.state !== "removed") this.show("failed", error.message);
    }
  }

  // Puts a job into the queue and follows it; null once it is cancelled.
  async queue(data) {
    const session = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(36)).join("");
    await ask(`${QUEUE}/join`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ data, fn_index: 0, session_hash: session }),
    });
    return new Promise((resolve, reject) => {
      const events = new EventSource(`${QUEUE}/data?session_hash=${session}`);
      const end = (finish, value) => {
        events.close();
        this.stop = null;
        finish(value);
      };
      this.stop = () => end(resolve, null);
      events.onerror = () => end(reject, new Error("The connection to the server was lost."));
      events.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (message.msg === "estimation") this.wait(message);
        else if (message.msg === "process_starts") this.show("running", "Starting …");
        else if (message.msg === "progress") this.report(message.progress_data[0]);
        else if (message.msg === "process_completed") {
          if (message.success) end(resolve, message.output.data[0]);
          else end(reject, new Error(message.output.error || "The separation failed; the server's log says why."));
        } else if (message.msg === "unexpected_error") end(reject, new Error(message.message));
      };
    });
  }

  wait({ rank, rank_eta: left }) {
    if (this.state !== "waiting") return;
    const before = rank === 1 ? "1 song is" : `${rank} songs are`;
    const about = left ? ` Begins in about ${clock(left)}.` : "";
    this.show("waiting", rank ? `In the queue: ${before} before this one.${about}` : "Next in the queue.");
  }

  report({ index, length, desc }) {
    if (this.state !== "running") return;
    const text = desc[0].toUpperCase() + desc.slice(1);
    if (this.stage !== desc) {
      this.stage = desc;
      this.stageBegan = performance.now();
      this.stageFrom = index || 0;
    }
    if (!length) {
      this.show("running", `${text} …`);
      return;
    }
    const spent = (performance.now() - this.stageBegan) / 1000;
    const speed = (index - this.stageFrom) / spent;
    const left = spent > 1 && speed > 0 ? `, about ${clock((length - index) / speed)} left` : "";
    this.show("running", `${text}: ${Math.floor((100 * index) / length)} %${left}`, index / length);
  }

  async cancel() {
    const running = this.state === "running";
    if (running) this.show("running", "Cancelling …");
    await ask(`${this.address}/cancel`, { method: "POST" }).catch((error) => notice(error.message));
    if (!running) this.stop?.();
  }

  remove() {
    if (this.id) ask(this.address, { method: "DELETE" }).catch(() => {});
    this.state = "removed";
    this.request?.abort();
    this.player?.close();
    this.stop?.();
    this.element.remove();
    songs.splice(songs.indexOf(this), 1);
    refresh();
  }

  present({ tracks, rate }) {
    const version = Date.now(); // the pictures of an earlier separation must not stand for those of this one
    const box = $("#player").content.cloneNode(true).firstElementChild;
    const player = new Player(
      tracks.map((track) => ({ ...track, sound: `${this.address}/tracks/${track.name}.pcm` })), rate, () => draw());
    // At first the stems sound together, which is the mixture; a stem alone sounds alone.
    player.tracks[0].muted = true;
    const rows = player.tracks.map((track) => {
      const row = $("#track").content.cloneNode(true).firstElementChild;
      row.dataset.track = track.name;
      $(".name", row).textContent = track.name;
      const picture = $("img", row);
      picture.src = `${this.address}/tracks/${track.name}.png?${version}`;
      picture.alt = `Spectrogram of the ${track.name}`;
      $(".mute", row).onclick = () => { track.muted = !track.muted; player.mix(); };
      $(".solo", row).onclick = () => { track.solo = !track.solo; player.mix(); };
      $(".mute", row).ariaLabel = `Mute ${track.name}`;
      $(".solo", row).ariaLabel = `Solo ${track.name}`;
      $(".picture", row).onclick = (event) => {
        const area = event.currentTarget.getBoundingClientRect();
        seek(player.length * (event.clientX - area.left) / area.width);
      };
      const link = $(".download", row);
      if (track.name !== "mixture") {
        link.hidden = false;
        link.href = `${this.address}/stems/${track.name}`;
        link.ariaLabel = `Download ${track.name}`;
      }
      $(".tracks", box).append(row);
      return row;
    });
    const button = $(".play", box);
    const slider = $(".position", box);
    slider.max = player.length / rate;
    const sound = (promise) => promise?.catch((error) => notice(error.message));
    const seek = (place) => sound(player.seek(place));
    button.onclick = () => (player.playing ? player.pause() : sound(player.play()));
    slider.oninput = () => seek(slider.value * rate);

    let frame = null;
    const draw = () => {
      cancelAnimationFrame(frame);
      const position = player.position;
      button.textContent = player.playing ? "❚❚" : "▶";
      button.ariaLabel = player.playing ? "Pause" : "Play";
      slider.value = position / rate;
      slider.ariaValueText = clock(position / rate);
      $(".time", box).textContent = `${clock(position / rate)} / ${clock(player.length / rate)}`;
      player.tracks.forEach((track, index) => {
        const row = rows[index];
        $("i", row).style.left = `${(100 * position) / player.length}%`;
        $(".mute", row).ariaPressed = track.muted;
        $(".solo", row).ariaPressed = track.solo;
        row.classList.toggle("silent", !player.audible(track));
      });
      if (player.playing) frame = requestAnimationFrame(draw);
    };
    draw();
    this.player = player;
    $(".result", this.element).replaceChildren(box);
    $(".result", this.element).hidden = false;
  }
}

function chosen() {
  const checked = (name) => Array.from(document.querySelectorAll(`input[name=${name}]:checked`), (box) => box.value);
  const models = checked("model");
  const ensemble = $("#ensemble").value;
  const weigh = models.length > 1 && ensemble === "mean";
  return {
    models, ensemble, stems: checked("stem"), format: $("#format").value,
    overlap: $("#overlap").valueAsNumber, tta: $("#tta").checked, smoothing: $("#smoothing").valueAsNumber,
    weights: weigh ? models.map((name) => weights.get(name).valueAsNumber) : null,
  };
}

function refresh() {
  const choice = chosen();
  const ready = songs.filter((song) => song.state === "ready").length;
  $("#ensemble-choice").hidden = choice.models.length < 2;
  $("#weights").hidden = !choice.weights;
  for (const [name, field] of weights) field.parentElement.hidden = field.disabled = !choice.models.includes(name);
  $("#separate").disabled = !ready || working || !choice.models.length || !choice.stems.length;
  $("#separate").textContent = ready > 1 ? `Separate ${ready} songs` : "Separate";
  $("#all").hidden = !songs.some((song) => song.state === "done");
}

// Songs of one page go through the queue one after another, so that visitors take turns.
async function start(list) {
  const choice = chosen();
  for (const song of list) song.show("waiting", "Waiting …");
  if (working) {
    backlog.push(...list.map((song) => [song, choice]));
    return;
  }
  working = true;
  backlog.push(...list.map((song) => [song, choice]));
  while (backlog.length) {
    const [song, wanted] = backlog.shift();
    if (song.state === "waiting") await song.separate(wanted);
  }
  working = false;
  refresh();
}
const backlog = [];

async function add(files) {
  notice("");
  const room = settings.max_songs - songs.length;
  if (files.length > room) notice(`This page takes ${settings.max_songs} songs at a time: remove some first.`);
  const fresh = Array.from(files).slice(0, Math.max(0, room)).map((file) => new Song(file));
  songs.push(...fresh);
  for (const song of fresh) song.show("uploading", "Waiting to be uploaded …");
  for (const song of fresh) if (song.state !== "removed") await song.upload();
}

async function begin() {
  try {
    settings = await ask("settings");
    ({ visit } = await ask("visits", { method: "POST" }));
  } catch {
    notice("The server does not answer: is it still running?");
    return;
  }
  $("#limits").textContent =
    `Any audio or video file, up to ${settings.max_megabytes} MB and ${settings.max_minutes} minutes.`;
  settings.models.forEach((model, index) => {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), {
      type: "checkbox", name: "model", value: model.name, checked: index === 0,
    });
    label.append(box, model.name);
    label.title = model.description;
    if (!model.here) {
      label.append(Object.assign(document.createElement("small"), { textContent: "downloaded on first use" }));
    }
    $("#models").append(label);
    const field = Object.assign(document.createElement("input"), {
      type: "number", min: 0, step: 0.1, value: 1, required: true,
    });
    const weight = document.createElement("label");
    weight.append(`Weight of ${model.name}`, field);
    $("#weights").append(weight);
    weights.set(model.name, field);
  });
  $("#format").append(...settings.formats.map((format) => new Option(format)));
  $("#zip").href = `visits/${visit}/stems.zip`;
  document.body.dataset.ready = "true";

  const drop = $("#drop");
  $("#files").onchange = (event) => { add([...event.target.files]); event.target.value = ""; };
  // A song that misses the panel must not replace the page.
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("over"));
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (event) => { drop.classList.remove("over"); add(event.dataTransfer.files); });
  $("#settings").onchange = refresh;
  $("#settings").onsubmit = (event) => {
    event.preventDefault();
    start(songs.filter((song) => song.state === "ready"));
  };
  setInterval(() => {
    ask(`visits/${visit}/alive`, { method: "POST" }).catch((error) => notice(error.message));
  }, ALIVE_SECONDS * 1000);
  addEventListener("pagehide", (event) => { if (!event.persisted) navigator.sendBeacon(`visits/${visit}/leave`); });
}

begin();
