package classifier

import android.content.Context
import android.graphics.Bitmap
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import java.io.Closeable
import java.nio.ByteBuffer
import java.nio.ByteOrder

class Answer(val label: String, val score: Float)

/** A TFLite file of the bundle in LiteRT; `file` is its name in the assets folder models/. */
class Classifier(context: Context, file: String) : Closeable {
    private val settings = Settings(context)
    private val labels = String(readAsset(context, "labels.txt")).trimEnd().lines()
    private val interpreter = Interpreter(toDirect(readAsset(context, "models/$file")), Interpreter.Options().setNumThreads(2))

    /** All labels, best first. The photo has to stand upright, as `readPhoto` gives it. */
    fun classify(photo: Bitmap): List<Answer> = classifySquare(toSquare(photo, settings.side, settings.geometry))

    /** The best of them; null where it scores less than the threshold that the model was exported with. */
    fun best(photo: Bitmap): Answer? = classify(photo).first().takeIf { it.score >= settings.scoreThreshold }

    /** All labels for a square of the model's size, which is taken as it is. */
    fun classifySquare(square: Bitmap): List<Answer> {
        val input = interpreter.getInputTensor(0)
        val pixels = ByteBuffer.allocateDirect(input.numBytes()).order(ByteOrder.nativeOrder())
        for (value in readPixels(square, settings.channels)) {
            if (input.dataType() == DataType.FLOAT32) pixels.putFloat(value.toFloat()) else pixels.put(value.toByte())
        }
        pixels.rewind()
        val output = interpreter.getOutputTensor(0)
        val bytes = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder())
        interpreter.run(pixels, bytes)
        bytes.rewind()
        val steps = output.quantizationParams()
        return labels.map { label ->
            val score = if (output.dataType() == DataType.FLOAT32) bytes.getFloat()
            else ((bytes.get().toInt() and 0xFF) - steps.getZeroPoint()) * steps.getScale()
            Answer(label, score)
        }.sortedByDescending { it.score }
    }

    override fun close() = interpreter.close()
}

/** What model.json says of photos and scores. */
class Settings(context: Context) {
    private val json = JSONObject(String(readAsset(context, "model.json")))
    val side: Int = json.getInt("image_size")
    val channels: Int = json.getInt("channels")
    val geometry: String = json.getString("geometry")
    val scoreThreshold: Float = if (json.isNull("score_threshold")) 0f else json.getDouble("score_threshold").toFloat()
}

fun readAsset(context: Context, name: String): ByteArray = context.assets.open(name).use { it.readBytes() }

private fun toDirect(bytes: ByteArray): ByteBuffer {
    val buffer = ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder())
    buffer.put(bytes)
    buffer.rewind()
    return buffer
}
