import CoreGraphics
import Foundation
import TensorFlowLite

struct Answer {
  let label: String
  let score: Float
}

/// What model.json says of photos and scores.
struct Settings: Decodable {
  let side: Int
  let channels: Int
  let geometry: String
  let scoreThreshold: Float?

  enum CodingKeys: String, CodingKey {
    case side = "image_size"
    case channels
    case geometry
    case scoreThreshold = "score_threshold"
  }
}

/// A TFLite file of the bundle. `folder` holds model.json, labels.txt and models/.
final class Classifier {
  let settings: Settings
  private let labels: [String]
  private let interpreter: Interpreter

  init(folder: URL, file: String) throws {
    settings = try JSONDecoder().decode(Settings.self, from: Data(contentsOf: folder.appendingPathComponent("model.json")))
    labels = try String(contentsOf: folder.appendingPathComponent("labels.txt"), encoding: .utf8)
      .split(separator: "\n").map(String.init)
    interpreter = try Interpreter(modelPath: folder.appendingPathComponent("models/" + file).path)
    try interpreter.allocateTensors()
  }

  /// The best label; nil where it scores less than the threshold that the model was exported with.
  func best(pixels: [UInt8]) throws -> Answer? {
    try classify(pixels: pixels).first.flatMap { $0.score >= settings.scoreThreshold ?? 0 ? $0 : nil }
  }

  /// All labels, best first. `pixels` are those of a square of the model's size, from `pixels(of:channels:)`.
  func classify(pixels: [UInt8]) throws -> [Answer] {
    let input = try interpreter.input(at: 0)
    let data = input.dataType == .uInt8
      ? Data(pixels)
      : pixels.map { Float32($0) }.withUnsafeBufferPointer { Data(buffer: $0) }
    try interpreter.copy(data, toInputAt: 0)
    try interpreter.invoke()
    let output = try interpreter.output(at: 0)
    return zip(labels, scores(of: output))
      .map { Answer(label: $0, score: $1) }
      .sorted { $0.score > $1.score }
  }

  private func scores(of output: Tensor) -> [Float] {
    if output.dataType == .uInt8, let steps = output.quantizationParameters {
      return output.data.map { Float(Int($0) - steps.zeroPoint) * steps.scale }
    }
    return output.data.withUnsafeBytes { Array($0.bindMemory(to: Float32.self)) }
  }
}
