// Do the jobs of one check with ONNX Runtime GenAI on DirectML, in one process.
//
//     runner.exe PAYLOAD JOBS
//
// PAYLOAD is a build's folder, JOBS the folder in which a job is a file `N.job`, N counting from 1,
// and its answer a file `N.answer`; either is complete once it has that name. `0.answer` says that
// the program runs and loads nothing yet. A job is a line with a verb, and lines of numbers:
//
//     open                     make the session; answer: what there is, a line "name value" each
//     encode                   the text is the rest of the file; answer: its token ids
//     generate / IDS / MOST    greedy tokens; answer: ids; 0 or 1 for stopped; seconds to the
//                              first and to the last; the text in the lines that remain
//     score / IDS / POSITIONS  answer: the vocabulary's size; logits in `N.logits`, float32
//     close                    end the session, so that ONNX Runtime writes its profile to JOBS
//
// The answer's first line is "done", or "refused" and what the library said. The program ends after
// `close`, or as soon as a job could not be done: what a failed DirectML device does next is not
// worth knowing. Every function is looked up by name: GenAI's wheel comes without headers
// (https://github.com/microsoft/onnxruntime-genai/blob/main/src/ort_genai_c.h).
#include <windows.h>
#include <dxgi.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

const int unwritable = 4; // exit code: JOBS cannot be written, which says nothing of the build

using Ids = std::vector<int32_t>;
using Clock = std::chrono::steady_clock;

// GenAI's objects are only passed on; a `Result` is null where a call went well.
struct Result;
struct Config;
struct Model;
struct Tokenizer;
struct Sequences;
struct Parameters;
struct Generator;
struct Tensor;

HMODULE library(const char *name) {
    HMODULE found = LoadLibraryA(name);
    if (!found)
        throw std::runtime_error(std::string(name) + " cannot be loaded, Windows error " +
                                 std::to_string(GetLastError()));
    return found;
}

template <typename Function> Function *function(const char *of, const char *name) {
    auto found = reinterpret_cast<Function *>(reinterpret_cast<void *>(
        GetProcAddress(library(of), name)));
    if (!found)
        throw std::runtime_error(std::string(of) + " has no " + name);
    return found;
}

template <typename... Types> Result *(*genai_function(const char *name))(Types...) {
    return function<Result *(Types...)>("onnxruntime-genai.dll", name);
}

template <typename Object> void (*genai_destroyer(const char *name))(Object *) {
    return function<void(Object *)>("onnxruntime-genai.dll", name);
}

void need(Result *result) {
    if (result) {
        auto message = function<const char *(Result *)>("onnxruntime-genai.dll", "OgaResultGetError");
        throw std::runtime_error(message(result));
    }
}

template <typename Object> using Owned = std::unique_ptr<Object, void (*)(Object *)>;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string version_of(const char *name) {
    char path[MAX_PATH];
    GetModuleFileNameA(library(name), path, sizeof path);
    DWORD unused, size = GetFileVersionInfoSizeA(path, &unused);
    std::vector<char> block(size);
    VS_FIXEDFILEINFO *info;
    UINT length;
    if (!size || !GetFileVersionInfoA(path, 0, size, block.data()) ||
        !VerQueryValueA(block.data(), "\\", reinterpret_cast<void **>(&info), &length))
        return "unknown";
    std::ostringstream text;
    text << HIWORD(info->dwFileVersionMS) << '.' << LOWORD(info->dwFileVersionMS) << '.'
         << HIWORD(info->dwFileVersionLS) << '.' << LOWORD(info->dwFileVersionLS);
    return text.str();
}

// The first adapter is the one that ONNX Runtime takes by default.
std::string adapter() {
    IDXGIFactory1 *factory = nullptr;
    IDXGIAdapter1 *first = nullptr;
    DXGI_ADAPTER_DESC1 description = {};
    auto create = function<HRESULT WINAPI(REFIID, void **)>("dxgi.dll", "CreateDXGIFactory1");
    if (create(__uuidof(IDXGIFactory1), reinterpret_cast<void **>(&factory)) != S_OK ||
        factory->EnumAdapters1(0, &first) != S_OK || first->GetDesc1(&description) != S_OK)
        return "none";
    char name[4 * std::size(description.Description)];
    WideCharToMultiByte(CP_UTF8, 0, description.Description, -1, name, sizeof name, nullptr, nullptr);
    return name;
}

class Session {
  public:
    Session(const std::string &payload, const std::string &jobs) {
        Config *config;
        need(genai_function<const char *, Config **>("OgaCreateConfig")(payload.c_str(), &config));
        Owned<Config> owned(config, genai_destroyer<Config>("OgaDestroyConfig"));
        // A session in the JSON of GenAI: it takes forward slashes.
        std::string overlay = R"({"model": {"decoder": {"session_options": {"enable_profiling": ")" +
                              jobs + R"(/profile"}}}})";
        need(genai_function<Config *, const char *>("OgaConfigOverlay")(config, overlay.c_str()));
        need(genai_function<Config *, Model **>("OgaCreateModelFromConfig")(config, &model));
        need(genai_function<Model *, Tokenizer **>("OgaCreateTokenizer")(model, &tokenizer));
        const int32_t *stop;
        size_t count;
        need(genai_function<Tokenizer *, const int32_t **, size_t *>("OgaTokenizerGetEosTokenIds")(
            tokenizer, &stop, &count));
        stop_ids.assign(stop, stop + count);
    }

    ~Session() {
        genai_destroyer<Tokenizer>("OgaDestroyTokenizer")(tokenizer);
        genai_destroyer<Model>("OgaDestroyModel")(model);
        function<void()>("onnxruntime-genai.dll", "OgaShutdown")();
    }

    std::string device_type() {
        const char *type;
        need(genai_function<Model *, const char **>("OgaModelGetDeviceType")(model, &type));
        return type;
    }

    Ids encode(const std::string &text) {
        auto create = genai_function<Sequences **>("OgaCreateSequences");
        auto encode = genai_function<Tokenizer *, const char *, Sequences *>("OgaTokenizerEncode");
        auto count = function<size_t(Sequences *, size_t)>("onnxruntime-genai.dll",
                                                           "OgaSequencesGetSequenceCount");
        auto data = function<const int32_t *(Sequences *, size_t)>("onnxruntime-genai.dll",
                                                                   "OgaSequencesGetSequenceData");
        Sequences *made;
        need(create(&made));
        Owned<Sequences> owned(made, genai_destroyer<Sequences>("OgaDestroySequences"));
        need(encode(tokenizer, text.c_str(), made));
        return Ids(data(made, 0), data(made, 0) + count(made, 0));
    }

    std::string decode(const Ids &ids) {
        auto decode = genai_function<Tokenizer *, const int32_t *, size_t, const char **>(
            "OgaTokenizerDecode");
        const char *text;
        need(decode(tokenizer, ids.data(), ids.size(), &text));
        std::string kept = text;
        function<void(const char *)>("onnxruntime-genai.dll", "OgaDestroyString")(text);
        return kept;
    }

    // A generator that has read `ids`, with room for `most` tokens more.
    Owned<Generator> read(const Ids &ids, size_t most) {
        auto number = genai_function<Parameters *, const char *, double>(
            "OgaGeneratorParamsSetSearchNumber");
        auto flag = genai_function<Parameters *, const char *, bool>(
            "OgaGeneratorParamsSetSearchBool");
        Parameters *parameters;
        need(genai_function<Model *, Parameters **>("OgaCreateGeneratorParams")(model, &parameters));
        Owned<Parameters> owned(parameters, genai_destroyer<Parameters>("OgaDestroyGeneratorParams"));
        need(flag(parameters, "do_sample", false));
        need(number(parameters, "max_length", double(ids.size() + most)));
        Generator *made;
        need(genai_function<Model *, Parameters *, Generator **>("OgaCreateGenerator")(
            model, parameters, &made));
        Owned<Generator> generator(made, genai_destroyer<Generator>("OgaDestroyGenerator"));
        need(genai_function<Generator *, const int32_t *, size_t>("OgaGenerator_AppendTokens")(
            made, ids.data(), ids.size()));
        return generator;
    }

    bool stops(int32_t id) const {
        for (int32_t stop : stop_ids)
            if (id == stop)
                return true;
        return false;
    }

  private:
    Model *model = nullptr;
    Tokenizer *tokenizer = nullptr;
    Ids stop_ids;
};

std::string generate(Session &session, const Ids &prompt, size_t most) {
    auto done = function<bool(Generator *)>("onnxruntime-genai.dll", "OgaGenerator_IsDone");
    auto next = genai_function<Generator *>("OgaGenerator_GenerateNextToken");
    auto tokens = genai_function<Generator *, const int32_t **, size_t *>(
        "OgaGenerator_GetNextTokens");
    auto started = Clock::now();
    auto generator = session.read(prompt, most);
    Ids answer;
    bool stopped = false;
    double first = 0;
    while (!stopped && !done(generator.get())) {
        const int32_t *made;
        size_t count;
        need(next(generator.get()));
        need(tokens(generator.get(), &made, &count));
        if (answer.empty())
            first = seconds_since(started);
        stopped = session.stops(made[0]);
        if (!stopped)
            answer.push_back(made[0]);
    }
    double last = seconds_since(started);
    std::ostringstream text;
    for (int32_t id : answer)
        text << id << ' ';
    text << '\n' << stopped << '\n' << first << '\n' << last << '\n';
    return text.str() + (answer.empty() ? "" : session.decode(answer));
}

float from_half(uint16_t half) {
    float value;
    uint32_t exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent == 0)
        value = float(fraction) / float(1 << 24);
    else {
        // Infinities and NaNs keep their exponent of ones.
        uint32_t bits = ((exponent == 31 ? 255 : exponent + 112) << 23) | (fraction << 13);
        memcpy(&value, &bits, sizeof value);
    }
    return half & 0x8000 ? -value : value;
}

std::string score(Session &session, const Ids &ids, const Ids &positions, const std::string &file) {
    auto output = genai_function<Generator *, const char *, Tensor **>("OgaGenerator_GetOutput");
    auto rank_of = genai_function<Tensor *, size_t *>("OgaTensorGetShapeRank");
    auto shape_of = genai_function<Tensor *, int64_t *, size_t>("OgaTensorGetShape");
    auto type_of = genai_function<Tensor *, int *>("OgaTensorGetType");
    auto data_of = genai_function<Tensor *, void **>("OgaTensorGetData");
    const int float32 = 1, float16 = 10; // ONNXTensorElementDataType
    auto generator = session.read(ids, 1); // at its full length a generator gives nothing
    Tensor *made;
    need(output(generator.get(), "logits", &made));
    Owned<Tensor> logits(made, genai_destroyer<Tensor>("OgaDestroyTensor"));
    size_t rank;
    int type;
    void *data;
    need(rank_of(made, &rank));
    std::vector<int64_t> shape(rank);
    need(shape_of(made, shape.data(), rank));
    need(type_of(made, &type));
    need(data_of(made, &data));
    if (rank != 3 || shape[0] != 1 || shape[1] != int64_t(ids.size()) ||
        (type != float32 && type != float16))
        throw std::runtime_error("logits are not (1, tokens, vocabulary) of float16 or float32");
    size_t vocabulary = size_t(shape[2]);
    std::vector<float> row(vocabulary);
    std::ofstream stream(file, std::ios::binary);
    for (int32_t position : positions) {
        size_t start = size_t(position) * vocabulary;
        for (size_t i = 0; i < vocabulary; i++)
            row[i] = type == float32 ? static_cast<float *>(data)[start + i]
                                     : from_half(static_cast<uint16_t *>(data)[start + i]);
        stream.write(reinterpret_cast<char *>(row.data()), std::streamsize(4 * vocabulary));
    }
    stream.close();
    if (!stream)
        TerminateProcess(GetCurrentProcess(), unwritable);
    return std::to_string(vocabulary) + "\n";
}

Ids numbers(std::istream &job) {
    std::string line;
    std::getline(job, line);
    std::istringstream words(line);
    return Ids(std::istream_iterator<int32_t>(words), {});
}

std::string about(Session &session) {
    const char *provider = GetModuleHandleA("DirectML.dll") ? "DirectML.dll" : nullptr;
    return "device_type " + session.device_type() + "\nadapter " + adapter() + "\ndirectml " +
           (provider ? version_of(provider) : "not loaded") + "\nonnxruntime " +
           version_of("onnxruntime.dll") + "\nonnxruntime-genai " +
           version_of("onnxruntime-genai.dll") + "\n";
}

std::string do_job(std::istream &job, const std::string &payload, const std::string &jobs,
                   const std::string &number, std::unique_ptr<Session> &session) {
    std::string verb;
    std::getline(job, verb);
    if (verb == "open") {
        session = std::make_unique<Session>(payload, jobs);
        return about(*session);
    }
    if (verb == "close") {
        session.reset();
        return "";
    }
    if (!session)
        throw std::runtime_error("there is no session for '" + verb + "'");
    if (verb == "encode") {
        std::string text(std::istreambuf_iterator<char>(job), {});
        std::ostringstream ids;
        for (int32_t id : session->encode(text))
            ids << id << ' ';
        return ids.str() + "\n";
    }
    Ids ids = numbers(job), more = numbers(job);
    if (verb == "generate")
        return generate(*session, ids, size_t(more.at(0)));
    if (verb == "score")
        return score(*session, ids, more, jobs + "/" + number + ".logits");
    throw std::runtime_error("unknown job '" + verb + "'");
}

void answer(const std::string &jobs, const std::string &number, const std::string &text) {
    std::string name = jobs + "/" + number, part = name + ".part";
    std::ofstream stream(part, std::ios::binary);
    stream << text;
    stream.close();
    if (!stream || !MoveFileA(part.c_str(), (name + ".answer").c_str()))
        TerminateProcess(GetCurrentProcess(), unwritable);
}

} // namespace

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: runner.exe PAYLOAD JOBS\n");
        return 2;
    }
    std::string payload = arguments[1], jobs = arguments[2];
    std::unique_ptr<Session> session;
    bool closed = false, refused = false;
    answer(jobs, "0", "done\n");
    for (int next = 1; !closed && !refused; next++) {
        std::string number = std::to_string(next), file = jobs + "/" + number + ".job";
        while (GetFileAttributesA(file.c_str()) == INVALID_FILE_ATTRIBUTES)
            Sleep(2);
        std::ifstream job(file, std::ios::binary);
        std::string said;
        try {
            said = "done\n" + do_job(job, payload, jobs, number, session);
            closed = !session;
        } catch (const std::bad_alloc &) {
            said = "refused\nout of memory";
            refused = true;
        } catch (const std::exception &error) {
            said = std::string("refused\n") + error.what();
            refused = true;
        }
        answer(jobs, number, said);
    }
    // Unloading the libraries may hang on a device that has failed.
    TerminateProcess(GetCurrentProcess(), refused ? 3 : 0);
}
