import { Player } from "./player.js";

const $ = (selector, within = document) => within.querySelector(selector);
const ALIVE_SECONDS = 60;
const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const songs = [];
let settings;
let session;
let working = false;
const weights = new Map(); // of each model in a mean: its field

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

function about(seconds) {
  return seconds === null ? "" : `, about ${clock(seconds)} left`;
}

// Tells screen readers about changes of a song's state, but not about its progress.
function announce(text) {
  $("#announcer").textContent = text;
}

function notice(text) {
  $("#notice").textContent = text;
  $("#notice").hidden = !text;
}

async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Error(body.error || `The server answered ${answer.status}.`);
  }
  return answer.status === 204 ? null : answer.json();
}

// One song of the page: new, uploading, ready, waiting, running, done or failed.
class Song {
  constructor(file) {
    this.file = file;
    this.state = "new";
    this.element = $("#song").content.cloneNode(true).firstElementChild;
    this.element.ariaLabel = file.name;
    $("h2", this.element).textContent = file.name;
    $("progress", this.element).ariaLabel = `Progress of ${file.name}`;
    $(".cancel", this.element).ariaLabel = `Cancel ${file.name}`;
    $(".remove", this.element).ariaLabel = `Remove ${file.name}`;
    $(".cancel", this.element).onclick = () => this.cancel();
    $(".remove", this.element).onclick = () => this.remove();
    $(".again", this.element).onclick = () => {
      this.show("ready", "Press Separate to begin.");
      start([this]);
    };
    $("#songs").append(this.element);
  }

  get address() {
    return `sessions/${session}/songs/${this.id}`;
  }

  show(state, text = "", share = null) {
    const changed = state !== this.state;
    this.state = state;
    const busy = ["uploading", "waiting", "running"].includes(state);
    const bar = $("progress", this.element);
    const line = $(".state", this.element);
    const again = $(".again", this.element);
    line.textContent = text;
    line.classList.toggle("bad", state === "failed");
    bar.hidden = !busy;
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    $(".cancel", this.element).hidden = !["waiting", "running"].includes(state);
    again.hidden = !(this.id && ["done", "failed"].includes(state));
    again.textContent = state === "done" ? "Separate again" : "Try again";
    again.ariaLabel = `${again.textContent}: ${this.file.name}`;
    $(".stream", this.element).hidden = busy || !(this.streams > 1);
    if (this.element.contains(document.activeElement) && document.activeElement.closest("[hidden]")) {
      $(".remove", this.element).focus();
    }
    this.element.dataset.state = state;
    if (changed) announce(`${this.file.name}: ${text || state}`);
    refresh();
  }

  upload() {
    if (this.file.size > settings.max_megabytes * 1e6) {
      this.show("failed", `This file is larger than this page takes (${settings.max_megabytes} MB).`);
      return Promise.resolve();
    }
    this.show("uploading", "Uploading …", 0);
    return new Promise((finished) => {
      // fetch does not report the progress of an upload.
      const request = (this.request = new XMLHttpRequest());
      request.open("POST", `sessions/${session}/songs?name=${encodeURIComponent(this.file.name)}`);
      request.responseType = "json";
      request.upload.onprogress = (event) => {
        this.show("uploading", "Uploading …", event.loaded / Math.max(1, event.total));
      };
      request.onloadend = () => {
        this.request = null;
        if (request.status === 201) {
          const { song, seconds, streams, stream } = request.response;
          this.id = song;
          this.streams = streams.length;
          $(".length", this.element).textContent = seconds === null ? "" : clock(seconds);
          for (const { number, label } of streams) {
            $(".stream select", this.element).add(
              new Option(`${number + 1}: ${label}`, number, false, number === stream));
          }
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
    this.cancelling = false;
    this.show("waiting", "Waiting …");
    try {
      await ask(`${this.address}/separation`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...choice, stream: Number($(".stream select", this.element).value) }),
      });
      await this.follow();
    } catch (error) {
      if (this.state !== "removed") this.show("failed", error.message);
    }
  }

  // Shows how far the separation is until it is over. The browser itself connects again after an interruption.
  follow() {
    return new Promise((resolve, reject) => {
      const events = new EventSource(`${this.address}/separation/events`);
      this.stop = () => { events.close(); resolve(); };
      events.onerror = () => {
        if (events.readyState !== EventSource.CLOSED) this.show(this.state, "Connection lost, trying again …");
        else reject(new Error("The server no longer has this song: reload the page and add it again."));
      };
      events.onmessage = (event) => {
        const separation = JSON.parse(event.data);
        this.report(separation);
        if (!["waiting", "running"].includes(separation.state)) this.stop();
      };
    });
  }

  report({ state, before, seconds_left: left, stage, share, error, result }) {
    if (state === "waiting") {
      const songs = before === 1 ? "1 song is" : `${before} songs are`;
      const begins = left === null ? "" : ` Begins in about ${clock(left)}.`;
      this.show(state, (before ? `In the queue: ${songs} before this one.` : "Next in the queue.") + begins);
    } else if (state === "running") {
      const text = this.cancelling ? "Cancelling" : stage[0].toUpperCase() + stage.slice(1);
      const far = this.cancelling || share === null ? " …" : `: ${Math.floor(100 * share)} %${about(left)}`;
      this.show(state, text + far, share);
    } else if (state === "done") {
      const notes = result.warnings.map((text) => `Note: ${text}.`);
      this.show(state, [`Separated in ${result.elapsed.toFixed(1)} s.`, ...notes].join(" "));
      this.present(result);
    } else if (state === "cancelled") this.show("ready", "Cancelled.");
    else this.show("failed", error);
  }

  async cancel() {
    this.cancelling = true;
    try {
      await ask(`${this.address}/separation`, { method: "DELETE" });
    } catch (error) {
      notice(error.message);
    }
  }

  remove() {
    if (this.id) ask(this.address, { method: "DELETE" }).catch(() => {});
    this.state = "removed";
    this.request?.abort();
    this.player?.close();
    this.stop?.();
    const place = songs.indexOf(this);
    songs.splice(place, 1);
    this.element.remove();
    const next = songs[place] || songs.at(-1);
    (next ? $(".remove", next.element) : $("#files")).focus();
    announce(`${this.file.name} removed`);
    refresh();
  }

  present({ tracks, rate }) {
    const version = Date.now(); // the browser must not show cached pictures of an earlier separation
    const box = $("#player").content.cloneNode(true).firstElementChild;
    const player = new Player(
      tracks.map((track) => ({ ...track, sound: `${this.address}/tracks/${track.name}.pcm` })), rate, () => draw());
    // At first the stems play together. A single stem plays without the mixture.
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

    let drawNoMore = () => {};
    const draw = () => {
      drawNoMore();
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
      if (player.playing && CALM.matches) {
        const timer = setTimeout(draw, 1000);
        drawNoMore = () => clearTimeout(timer);
      } else if (player.playing) {
        const frame = requestAnimationFrame(draw);
        drawNoMore = () => cancelAnimationFrame(frame);
      }
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
  $("#separate").ariaDisabled = !ready || working || !choice.models.length || !choice.stems.length;
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
    ({ session } = await ask("sessions", { method: "POST" }));
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
    const size = model.megabytes ? `${model.megabytes} MB to download` : "";
    const notes = [model.description, size].filter(Boolean).join(", ");
    label.append(box, model.name, Object.assign(document.createElement("small"), { textContent: notes }));
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
  $("#zip").href = `sessions/${session}/stems.zip`;
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
    if ($("#separate").ariaDisabled === "true") return;
    start(songs.filter((song) => song.state === "ready"));
  };
  setInterval(() => {
    ask(`sessions/${session}/alive`, { method: "POST" }).catch((error) => notice(error.message));
  }, ALIVE_SECONDS * 1000);
  addEventListener("pagehide", (event) => { if (!event.persisted) navigator.sendBeacon(`sessions/${session}/leave`); });
}

begin();
