package classifier

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier.ImageClassifierOptions
import java.io.Closeable

/**
 * The same file in MediaPipe Tasks, which reads labels and what pixels it wants from the file itself. It leaves out labels that score
 * less than `scoreThreshold`, which is that of the file unless another is given.
 */
class MediaPipeClassifier(context: Context, file: String, scoreThreshold: Float? = null) : Closeable {
    private val settings = Settings(context)
    private val classifier = ImageClassifier.createFromOptions(
        context,
        ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath("models/$file").build())
            .setRunningMode(RunningMode.IMAGE)
            .setMaxResults(-1) // all labels
            .apply { if (scoreThreshold != null) setScoreThreshold(scoreThreshold) }
            .build()
    )

    /** The labels, best first; none where all score less than the threshold. The photo has to stand upright, as `readPhoto` gives it. */
    fun classify(photo: Bitmap): List<Answer> = classifySquare(toSquare(photo, settings.side, settings.geometry))

    /** The same for a square of the model's size. */
    fun classifySquare(square: Bitmap): List<Answer> =
        classifier.classify(BitmapImageBuilder(square).build()).classificationResult().classifications()[0].categories()
            .map { Answer(it.categoryName(), it.score()) }

    override fun close() = classifier.close()
}
