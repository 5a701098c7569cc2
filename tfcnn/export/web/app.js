// Runs the TFLite files beside this page on photos, in the browser.
import { read, toChannels, toSquare } from './pixels.js';

const ROOT = new URL('../', import.meta.url); // model.json lies here, and its paths are relative to it
const TOP = 3;
const $ = (id) => document.getElementById(id);

let model; // model.json
let litert; // the module @litertjs/core
let loaded; // { file, compiled }: one model at a time
let last; // the pixels of the last photo, for when another file is chosen
let turn = Promise.resolve(); // what loads or uses the model waits for its turn

/** Classifies all golden photos with the chosen file; gives one {photo, expected, got, difference, ok} a photo. */
window.checkGolden = async () => {
  await ready;
  if (!model.expected) throw new Error('There are no golden photos here.');
  $('models').disabled = $('check').disabled = true; // one file for all photos
  try {
    return await checkAll();
  } finally {
    $('models').disabled = $('check').disabled = false;
  }
};

/** The pixels of a photo as the model gets them; for tests. */
window.photoPixels = async (blob) => Array.from(toChannels(toSquare(await decode(blob), model.image_size, model.geometry), model.channels));

const ready = start(); // without a model: if a file is broken, another can be chosen
ready.then(prepare).then(() => new URLSearchParams(location.search).has('check') && model.expected && window.checkGolden()).catch(fail);

async function start() {
  model = await (await get('model.json')).json();
  document.title = $('name').textContent = model.name;
  model.models.forEach(addChoice);
  if (model.expected) await offerGolden();
  try {
    litert = await import('@litertjs/core');
    await litert.loadLiteRt(new URL('../wasm/', import.meta.resolve('@litertjs/core')).href);
  } catch (error) {
    throw new Error('LiteRT.js, which runs the model, is missing here. Run "npm install" in the folder of this page, then reload.', { cause: error });
  }
  listen();
}

async function get(path) {
  const answer = await fetch(new URL(path, ROOT));
  if (!answer.ok) throw new Error(`The file ${path} is missing on this server (${answer.status}).`);
  return answer;
}

async function prepare() {
  await inTurn(() => load(chosen()));
  say('Ready. Choose a photo.');
}

function chosen() {
  return model.models[Number(document.querySelector('input[name=model]:checked').value)];
}

async function load(file) {
  if (loaded?.file === file) return loaded.compiled;
  loaded?.compiled.delete();
  loaded = undefined;
  say('Loading the model …');
  const bytes = new Uint8Array(await (await get(file.file)).arrayBuffer());
  try {
    loaded = { file, compiled: await litert.loadAndCompile(bytes, { accelerator: 'wasm' }) };
  } catch (error) {
    throw new Error(`The model file ${file.file} cannot be run in this browser. Choose another one.`, { cause: error });
  }
  return loaded.compiled;
}

/** All labels with their scores, best first. `pixels` is a Uint8Array of height x width x channels. */
function classify(pixels) {
  return inTurn(async () => {
    const file = chosen(), compiled = await load(file), side = model.image_size;
    const input = new litert.Tensor(file.input.dtype === 'uint8' ? pixels : Float32Array.from(pixels), [1, side, side, model.channels]);
    const [output] = await compiled.run(input);
    const { scale, zero_point } = file.output; // 1 and 0 for a file that gives float numbers
    const scores = Array.from(output.toTypedArray(), (value) => (value - zero_point) * scale);
    input.delete();
    output.delete();
    return scores.map((score, index) => ({ label: model.labels[index], score })).sort((a, b) => b.score - a.score);
  });
}

function inTurn(action) {
  const result = turn.then(action);
  turn = result.catch(() => {});
  return result;
}

/** A golden photo has the size of the model and is taken as it is: no turning, no colour management. */
async function goldenPixels(photo) {
  const blob = await (await get(`golden/${photo}`)).blob();
  return toChannels(read(await createImageBitmap(blob, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' })), model.channels);
}

async function decode(blob) {
  try {
    return await createImageBitmap(blob, { imageOrientation: 'from-image', colorSpaceConversion: 'none' }); // training reads no profiles either
  } catch (error) {
    throw new Error('This file is not a photo that the browser can read. Choose a JPEG, PNG or WebP file.', { cause: error });
  }
}

async function showPhoto(blob) {
  $('error').hidden = true;
  const bitmap = await decode(blob);
  stopCamera();
  URL.revokeObjectURL($('photo').src);
  $('photo').src = URL.createObjectURL(blob);
  $('photo').hidden = false;
  $('hint').hidden = true;
  last = toChannels(toSquare(bitmap, model.image_size, model.geometry), model.channels);
  await answer();
}

async function answer() {
  await inTurn(() => load(chosen())); // not part of the time
  const before = performance.now();
  const answers = await classify(last);
  const threshold = chosen().score_threshold ?? 0, unsure = answers[0].score < threshold;
  say(`Took ${Math.max(1, Math.round(performance.now() - before))} ms on this device.${unsure ? ` No answer: all labels score less than ${percent(threshold)}.` : ''}`);
  $('answers').replaceChildren(...answers.slice(0, TOP).map(({ label, score }) => {
    const item = document.createElement('li'), bar = document.createElement('meter');
    Object.assign(bar, { min: 0, max: 1, value: score, title: label });
    item.append(text('span', label), text('b', percent(score)), bar);
    return item;
  }));
}

function addChoice(file, index) {
  const label = document.createElement('label'), input = document.createElement('input');
  Object.assign(input, { type: 'radio', name: 'model', value: index, checked: index === 0 });
  label.append(input, text('span', file.file.split('/').pop()), text('small', `${(file.bytes / 1e6).toFixed(1)} MB`));
  $('models').append(label);
}

async function offerGolden() {
  const answer = await fetch(new URL(model.expected, ROOT));
  if (!answer.ok) { // the photos may have been taken out before the bundle was passed on
    model.expected = null;
    return;
  }
  const { photos } = await answer.json();
  $('golden').hidden = false;
  $('check').hidden = !photos.length;
  $('golden-about').textContent = photos.length
    ? `${photos.length} photos whose answers were stored when the files were made. A device that runs a file well gives the same answers.`
    : 'There are none: no test photo has an answer that is beyond doubt in every file.';
}

async function checkAll() {
  const golden = await (await get(model.expected)).json();
  const name = chosen().file.split('/').pop(), { tolerance } = golden.files[name];
  const results = [];
  for (const { photo, expected } of golden.photos) {
    const answers = await classify(await goldenPixels(photo));
    const differences = expected[name].map(({ label, score }) => Math.abs(answers.find((a) => a.label === label).score - score));
    const difference = Math.max(...differences), got = answers[0];
    results.push({ photo, expected: expected[name][0], got, difference, ok: got.label === expected[name][0].label && difference <= tolerance });
    sum(`Checking ${results.length} of ${golden.photos.length} …`);
  }
  showGolden(results, name, tolerance);
  return results;
}

function showGolden(results, name, tolerance) {
  if (!results.length) return sum('There are no golden photos: nothing was checked.', 'bad');
  const good = results.filter((result) => result.ok).length;
  const largest = Math.max(...results.map((result) => result.difference));
  const differ = largest < 0.0001 ? 'by less than 0.0001' : `by ${largest.toFixed(4)} at most`;
  sum(`${name}: ${good} of ${results.length} as expected. Scores differ ${differ}; ${tolerance} is allowed.`, good === results.length ? 'good' : 'bad');
  $('table').hidden = false;
  $('rows').replaceChildren(...results.map(({ photo, expected, got, ok }) => {
    const row = document.createElement('tr'), cell = document.createElement('td'), image = document.createElement('img');
    Object.assign(image, { src: new URL(`golden/${photo}`, ROOT), alt: photo, width: 48, height: 48, loading: 'lazy' });
    cell.append(image);
    row.append(cell, pair(expected), pair(got), Object.assign(text('td', ok ? '✓' : '✗'), { className: ok ? 'good' : 'bad', ariaLabel: ok ? 'ok' : 'not ok' }));
    return row;
  }));
}

function listen() {
  const act = (action) => (event) => Promise.resolve(action(event)).catch(fail);
  $('file').addEventListener('change', act(async () => {
    const [file] = $('file').files;
    $('file').value = ''; // so that the same file can be chosen again
    if (file) await showPhoto(file);
  }));
  for (const name of ['dragover', 'dragleave', 'drop']) {
    document.addEventListener(name, (event) => {
      event.preventDefault(); // else the browser leaves the page for a file dropped beside the field
      $('drop').classList.toggle('over', name === 'dragover');
    });
  }
  document.addEventListener('drop', act(async (event) => event.dataTransfer.files.length && showPhoto(event.dataTransfer.files[0])));
  $('models').addEventListener('change', act(() => {
    $('error').hidden = true;
    return last ? answer() : prepare();
  }));
  $('check').addEventListener('click', act(() => window.checkGolden()));
  $('camera').addEventListener('click', act(() => ($('video').srcObject ? stopCamera() : startCamera())));
  $('shoot').addEventListener('click', act(async () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: $('video').videoWidth, height: $('video').videoHeight });
    canvas.getContext('2d').drawImage($('video'), 0, 0);
    await showPhoto(await new Promise((resolve) => { canvas.toBlob(resolve, 'image/png'); }));
  }));
}

async function startCamera() {
  $('error').hidden = true;
  try {
    $('video').srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
  } catch (error) {
    throw new Error('The camera cannot be used here: there is none, it was not allowed, or the page is not on localhost or https.', { cause: error });
  }
  await $('video').play();
  showCamera(true);
}

function stopCamera() {
  $('video').srcObject?.getTracks().forEach((track) => track.stop());
  $('video').srcObject = null;
  showCamera(false);
}

function showCamera(on) {
  $('video').hidden = $('shoot').hidden = !on;
  $('photo').hidden = on || !$('photo').src;
  $('hint').hidden = on || !$('photo').hidden;
  $('camera').textContent = on ? 'Stop camera' : 'Camera';
}

function fail(error) {
  console.warn(error, error.cause ?? '');
  $('error').textContent = error.message;
  $('error').hidden = false;
  $('status').textContent = '';
}

function say(message) {
  $('status').textContent = message;
}

function sum(message, className = '') {
  Object.assign($('summary'), { textContent: message, className, hidden: false });
}

function percent(score) {
  return `${(100 * score).toFixed(1)} %`;
}

function pair({ label, score }) {
  const cell = text('td', label);
  cell.append(text('small', percent(score)));
  return cell;
}

function text(tag, content) {
  return Object.assign(document.createElement(tag), { textContent: content });
}
