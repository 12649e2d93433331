/**
 * Play HLS in a <video>: natively where the browser can, else by a local hls.js.
 */

const HLS = "application/vnd.apple.mpegurl";

/**
 * A <video> for `url`, or null when this browser has no way to play it.
 *
 * `hlsJs` is the address of hls.js on this server or null; it is loaded only if needed.
 * `onError` is called when the playlist or its media cannot be played.
 */
export async function playerFor(url, hlsJs, onError) {
  const video = document.createElement("video");
  video.controls = true;
  video.playsInline = true;
  video.preload = "metadata";
  video.addEventListener("error", onError);
  if (video.canPlayType(HLS)) {
    video.src = url;
    return video;
  }
  const Hls = hlsJs && (await load(hlsJs));
  if (!Hls?.isSupported()) return null;
  const hls = new Hls();
  hls.on(Hls.Events.ERROR, (_, data) => data.fatal && onError());
  hls.loadSource(url);
  hls.attachMedia(video);
  return video;
}

let loading;

function load(address) {
  loading ??= new Promise((resolve) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => resolve(window.Hls ?? null);
    script.onerror = () => resolve(null);
    document.head.append(script);
  });
  return loading;
}
