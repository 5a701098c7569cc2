import CoreGraphics
import UIKit

/// The square that the model was trained on: upright, on white where the photo is transparent, with black bars for "letterbox".
func square(of photo: UIImage, settings: Settings) -> CGImage? {
  let side = CGFloat(settings.side), size = photo.size // of the upright photo
  var width = side, height = side
  if settings.geometry != "stretch" {
    let scale = settings.geometry == "letterbox" ? side / max(size.width, size.height) : side / min(size.width, size.height)
    width = max(1, (size.width * scale).rounded())
    height = max(1, (size.height * scale).rounded())
  }
  let place = CGRect(x: ((side - width) / 2).rounded(.down), y: ((side - height) / 2).rounded(.down), width: width, height: height)
  let format = UIGraphicsImageRendererFormat()
  format.scale = 1
  format.opaque = true
  format.preferredRange = .standard
  let renderer = UIGraphicsImageRenderer(size: CGSize(width: side, height: side), format: format)
  return renderer.image { context in
    UIColor.black.setFill()
    context.fill(CGRect(x: 0, y: 0, width: side, height: side))
    UIColor.white.setFill()
    context.fill(place)
    context.cgContext.interpolationQuality = .high
    photo.draw(in: place) // applies the orientation; what lies beyond the square is cut off
  }.cgImage
}

/// Values row by row: red, green and blue of each pixel, or its grey (ITU-R BT.601) for one channel. They are taken in the image's own
/// colour space, so that no value changes.
func pixels(of image: CGImage, channels: Int) -> [UInt8] {
  let width = image.width, height = image.height
  let isGrey = image.colorSpace?.model == .monochrome
  let space = image.colorSpace ?? CGColorSpaceCreateDeviceRGB()
  let bytesPerPixel = isGrey ? 1 : 4
  let info = isGrey ? CGImageAlphaInfo.none.rawValue : CGImageAlphaInfo.noneSkipLast.rawValue
  var bytes = [UInt8](repeating: 0, count: width * height * bytesPerPixel)
  bytes.withUnsafeMutableBytes { buffer in
    let context = CGContext(
      data: buffer.baseAddress, width: width, height: height, bitsPerComponent: 8,
      bytesPerRow: width * bytesPerPixel, space: space, bitmapInfo: info)
    context?.interpolationQuality = .none
    context?.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
  }
  var values = [UInt8]()
  values.reserveCapacity(width * height * channels)
  for start in stride(from: 0, to: bytes.count, by: bytesPerPixel) {
    let red = bytes[start], green = isGrey ? red : bytes[start + 1], blue = isGrey ? red : bytes[start + 2]
    if channels == 1 {
      values.append(UInt8((Int(red) * 19595 + Int(green) * 38470 + Int(blue) * 7471 + 32768) >> 16))
    } else {
      values += [red, green, blue]
    }
  }
  return values
}
