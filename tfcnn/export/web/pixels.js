// Photos as the pixels that the model was trained on: upright, on white, in the geometry of the training.
// Photos are made smaller as Pillow does it: blocks of whole pixels are averaged, the rest is interpolated over all pixels it covers.

const PLACE = {
  stretch: (width, height, side) => ({ size: [side, side], box: [0, 0, width, height] }),
  letterbox: (width, height, side) => {
    const scale = side / Math.max(width, height);
    return { size: [width, height].map((n) => Math.max(1, Math.round(n * scale))), box: [0, 0, width, height] };
  },
  center_crop: (width, height, side) => {
    const short = Math.min(width, height), left = (width - short) / 2, top = (height - short) / 2;
    return { size: [side, side], box: [left, top, left + short, top + short] };
  },
};

/** The square of a photo as ImageData; `bitmap` stands upright, as createImageBitmap gives it with imageOrientation 'from-image'. */
export function toSquare(bitmap, side, geometry) {
  const { size: [width, height], box } = PLACE[geometry](bitmap.width, bitmap.height, side);
  const part = resize(read(bitmap), box, width, height);
  const square = new ImageData(side, side);
  const left = Math.floor((side - width) / 2), top = Math.floor((side - height) / 2);
  for (let i = 3; i < square.data.length; i += 4) square.data[i] = 255; // the bars of a letterbox are black
  for (let y = 0; y < height; y++) square.data.set(part.data.subarray(4 * y * width, 4 * (y + 1) * width), 4 * ((top + y) * side + left));
  return square;
}

/** Pixels as they are, in the channels of the model: RGB, or grey as Pillow makes it (ITU-R BT.601). */
export function toChannels(image, channels) {
  const { data } = image, pixels = new Uint8Array((data.length / 4) * channels);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    if (channels === 1) pixels[j++] = (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 32768) >> 16;
    else for (let c = 0; c < 3; c++) pixels[j++] = data[i + c];
  }
  return pixels;
}

/** All pixels of a bitmap as ImageData, on white where it is transparent. */
export function read(bitmap) {
  const canvas = Object.assign(document.createElement('canvas'), { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = 'white';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function resize(image, box, width, height) {
  const scale = [(box[2] - box[0]) / width, (box[3] - box[1]) / height];
  const [left, top, right, bottom] = [ // what the interpolation looks at
    Math.max(0, Math.floor(box[0] - scale[0] / 2)), Math.max(0, Math.floor(box[1] - scale[1] / 2)),
    Math.min(image.width, Math.ceil(box[2] + scale[0] / 2)), Math.min(image.height, Math.ceil(box[3] + scale[1] / 2))];
  const [fx, fy] = scale.map((s) => Math.max(1, Math.floor(s / 1.01)));
  const small = average(image, left, top, right, bottom, fx, fy);
  const across = interpolate(small.data, small.height, small.width, 4 * small.width, 4, (box[0] - left) / fx, (box[2] - left) / fx, width);
  const data = interpolate(across, width, small.height, 4, 4 * width, (box[1] - top) / fy, (box[3] - top) / fy, height);
  return { data, width, height };
}

/** Means of blocks of fx by fy pixels; those at the right and lower edge may be smaller. */
function average(image, left, top, right, bottom, fx, fy) {
  const width = Math.ceil((right - left) / fx), height = Math.ceil((bottom - top) / fy), data = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    const y0 = top + y * fy, y1 = Math.min(bottom, y0 + fy);
    for (let x = 0; x < width; x++) {
      const x0 = left + x * fx, x1 = Math.min(right, x0 + fx), sum = [0, 0, 0, 0], count = (x1 - x0) * (y1 - y0);
      for (let v = y0; v < y1; v++) {
        for (let i = 4 * (v * image.width + x0); i < 4 * (v * image.width + x1); i += 4) {
          for (let c = 0; c < 4; c++) sum[c] += image.data[i + c];
        }
      }
      for (let c = 0; c < 4; c++) data[4 * (y * width + x) + c] = Math.floor(sum[c] / count + 0.5);
    }
  }
  return { data, width, height };
}

/** Triangle filter along one axis: `lines` lines of `length` pixels, whose neighbours lie `step` apart (and lines the other stride). */
function interpolate(source, lines, length, lineStride, step, from, to, target) {
  const across = step === 4, out = new Uint8ClampedArray(4 * lines * target);
  const scale = (to - from) / target, support = Math.max(1, scale);
  for (let t = 0; t < target; t++) {
    const centre = from + (t + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5)), end = Math.min(length, Math.floor(centre + support + 0.5));
    const weights = [];
    for (let i = first; i < end; i++) weights.push(Math.max(0, 1 - Math.abs((i + 0.5 - centre) / support)));
    const total = weights.reduce((a, b) => a + b, 0);
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let i = first; i < end; i++) sum += weights[i - first] * source[line * lineStride + i * step + c];
        out[(across ? 4 * (line * target + t) : 4 * (t * lines + line)) + c] = Math.floor(sum / total + 0.5);
      }
    }
  }
  return out;
}
