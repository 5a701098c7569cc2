package classifier

import androidx.test.ext.junit.runners.AndroidJUnit4
import org.junit.Test
import org.junit.runner.RunWith

@RunWith(AndroidJUnit4::class)
class MediaPipeGoldenTest {
    @Test
    fun everyModelGivesTheGoldenAnswersInMediaPipe() = checkGolden { context, file, squares ->
        MediaPipeClassifier(context, file, scoreThreshold = 0f).use { classifier -> squares.map { classifier.classifySquare(it) } }
    }
}
