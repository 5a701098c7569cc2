import ImageIO
import XCTest

/// Every model file gives on this device the answers that it gave on the computer that made it.
final class GoldenTests: XCTestCase {
  func testEveryModelGivesTheGoldenAnswers() throws {
    let folder = try XCTUnwrap(Bundle(for: GoldenTests.self).resourceURL)
    let golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: folder.appendingPathComponent("golden/expected.json")))
    XCTAssertFalse(golden.photos.isEmpty)
    for (file, limit) in golden.files {
      let classifier = try Classifier(folder: folder, file: file)
      for photo in golden.photos {
        let image = try readImage(folder.appendingPathComponent("golden/" + photo.photo))
        let answers = try classifier.classify(pixels: pixels(of: image, channels: classifier.settings.channels))
        let expected = try XCTUnwrap(photo.expected[file])
        XCTAssertEqual(answers.first?.label, expected.first?.label, "\(file) on \(photo.photo)")
        for row in expected {
          let answer = try XCTUnwrap(answers.first { $0.label == row.label })
          XCTAssertEqual(answer.score, row.score, accuracy: limit.tolerance, "\(file) on \(photo.photo), \(row.label)")
        }
      }
    }
  }

  private func readImage(_ url: URL) throws -> CGImage {
    let source = try XCTUnwrap(CGImageSourceCreateWithURL(url as CFURL, nil))
    return try XCTUnwrap(CGImageSourceCreateImageAtIndex(source, 0, nil))
  }
}

private struct Golden: Decodable {
  let files: [String: Limit]
  let photos: [Row]

  struct Limit: Decodable {
    let tolerance: Float
  }

  struct Row: Decodable {
    let photo: String
    let expected: [String: [Score]]
  }

  struct Score: Decodable {
    let label: String
    let score: Float
  }
}
