package classifier

import android.content.Context
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/** Every model file gives on this device the answers that it gave on the computer that made it. */
@RunWith(AndroidJUnit4::class)
class GoldenTest {
    @Test
    fun everyModelGivesTheGoldenAnswers() = checkGolden { context, file, squares ->
        Classifier(context, file).use { classifier -> squares.map { classifier.classifySquare(it) } }
    }
}

/** Runs `classify` (context, model file, squares) for every model file and compares its answers with golden/expected.json. */
fun checkGolden(classify: (Context, String, List<Bitmap>) -> List<List<Answer>>) {
    val app = InstrumentationRegistry.getInstrumentation().targetContext // models are assets of the app,
    val test = InstrumentationRegistry.getInstrumentation().context // golden photos are assets of the test
    val golden = JSONObject(String(readAsset(test, "golden/expected.json")))
    val rows = golden.getJSONArray("photos")
    assertTrue("golden photos", rows.length() > 0)
    val photos = (0 until rows.length()).map { rows.getJSONObject(it) }
    val squares = photos.map { readSquare(readAsset(test, "golden/" + it.getString("photo"))) }
    for (file in golden.getJSONObject("files").keys()) {
        val tolerance = golden.getJSONObject("files").getJSONObject(file).getDouble("tolerance")
        classify(app, file, squares).zip(photos).forEach { (answers, photo) ->
            val name = file + " on " + photo.getString("photo")
            val expected = photo.getJSONObject("expected").getJSONArray(file)
            assertTrue(name, expected.length() > 0)
            assertEquals(name, expected.getJSONObject(0).getString("label"), answers[0].label)
            for (index in 0 until expected.length()) {
                val label = expected.getJSONObject(index).getString("label")
                val score = answers.first { it.label == label }.score
                assertEquals("$name, $label", expected.getJSONObject(index).getDouble("score"), score.toDouble(), tolerance)
            }
        }
    }
}

private fun readSquare(png: ByteArray): Bitmap {
    val options = BitmapFactory.Options()
    options.inScaled = false
    options.inPreferredConfig = Bitmap.Config.ARGB_8888
    return BitmapFactory.decodeByteArray(png, 0, png.size, options)
}
