// Into the module's build.gradle.kts. The versions are those that the sources were written for.
android {
    defaultConfig {
        minSdk = 28 // ImageDecoder, which turns photos upright
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }
    androidResources {
        noCompress += "tflite"
    }
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:1.4.2") // Classifier.kt; 2.x has another Interpreter
    implementation("com.google.mediapipe:tasks-vision:0.10.35") // only for MediaPipeClassifier.kt
    androidTestImplementation("androidx.test.ext:junit:1.2.1")
    androidTestImplementation("androidx.test:runner:1.6.2")
}
