package classifier

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.ImageDecoder
import android.graphics.Paint
import android.graphics.Rect
import android.graphics.RectF
import android.net.Uri
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt

/** A photo upright by its EXIF orientation, which ImageDecoder applies by itself. */
fun readPhoto(resolver: ContentResolver, uri: Uri): Bitmap =
    ImageDecoder.decodeBitmap(ImageDecoder.createSource(resolver, uri)) { decoder, _, _ ->
        decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // so that its pixels can be read
    }

/** The square that the model was trained on: on white where the photo is transparent, with black bars for "letterbox". */
fun toSquare(photo: Bitmap, side: Int, geometry: String): Bitmap {
    val short = min(photo.width, photo.height)
    val scale = side.toFloat() / max(photo.width, photo.height)
    val part = if (geometry == "center_crop") Rect((photo.width - short) / 2, (photo.height - short) / 2, (photo.width + short) / 2, (photo.height + short) / 2)
    else Rect(0, 0, photo.width, photo.height)
    val width = if (geometry == "letterbox") max(1, (photo.width * scale).roundToInt()) else side
    val height = if (geometry == "letterbox") max(1, (photo.height * scale).roundToInt()) else side
    val place = Rect((side - width) / 2, (side - height) / 2, (side - width) / 2 + width, (side - height) / 2 + height)

    var small = Bitmap.createBitmap(photo, part.left, part.top, part.width(), part.height())
    while (small.width >= 2 * width || small.height >= 2 * height) { // by halves, since one large step would leave pixels out
        val halfWidth = if (small.width >= 2 * width) small.width / 2 else small.width
        val halfHeight = if (small.height >= 2 * height) small.height / 2 else small.height
        small = Bitmap.createScaledBitmap(small, halfWidth, halfHeight, true)
    }
    val square = Bitmap.createBitmap(side, side, Bitmap.Config.ARGB_8888)
    val canvas = Canvas(square)
    val white = Paint()
    white.color = Color.WHITE
    canvas.drawColor(Color.BLACK)
    canvas.drawRect(place, white)
    canvas.drawBitmap(small, null, RectF(place), Paint(Paint.FILTER_BITMAP_FLAG))
    return square
}

/** Values 0 to 255 row by row: red, green and blue of each pixel, or its grey (ITU-R BT.601) for one channel. */
fun readPixels(square: Bitmap, channels: Int): IntArray {
    val colours = IntArray(square.width * square.height)
    square.getPixels(colours, 0, square.width, 0, 0, square.width, square.height)
    val values = IntArray(colours.size * channels)
    for ((index, colour) in colours.withIndex()) {
        val red = Color.red(colour)
        val green = Color.green(colour)
        val blue = Color.blue(colour)
        if (channels == 1) {
            values[index] = (red * 19595 + green * 38470 + blue * 7471 + 32768) shr 16
        } else {
            values[3 * index] = red
            values[3 * index + 1] = green
            values[3 * index + 2] = blue
        }
    }
    return values
}
